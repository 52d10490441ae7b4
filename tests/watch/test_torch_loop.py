"""The PyTorch loop of the docs logs what its net's layers have."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

import vgx
from vgx.results.store import Run

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
PAGE = Path(vgx.__file__).parent.parent / "docs" / "how-to" / "watch-log.md"


@pytest.fixture(scope="module")
def shown():
    """What the page's code defines, without the two trainings at its end."""
    found = re.search(r"^```python\n(# hooked\.py\n.*?)^train\(", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found
    names: dict = {}
    exec(found[1], names)
    return names


def test_its_gradients_are_those_of_explicit_perturbations(shown):
    torch.manual_seed(0)
    model = shown["net"](3, torch.nn.Tanh).double()
    hooks = shown["Hooks"](model)
    images, labels = torch.rand(16, 64, dtype=torch.float64), torch.randint(10, (16,))
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    rows = hooks.measured()
    linears = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    added = [torch.zeros(16, linear.out_features, dtype=torch.float64, requires_grad=True) for linear in linears]
    h = x = images
    for linear, eps in zip(linears, added, strict=True):
        h = torch.nn.functional.linear(x, linear.weight, linear.bias) + eps
        x = torch.tanh(h)
    each = torch.autograd.grad(torch.nn.functional.cross_entropy(h, labels, reduction="sum"), added)
    expected = [math.log10(g.square().sum(1).mean().sqrt().item()) for g in each]  # root mean square over examples
    assert list(rows) == ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear", "head"]
    np.testing.assert_allclose([row["delta_log10"] for row in rows.values()], expected, atol=1e-10)


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1.0, 1e30])
def test_its_norms_are_of_any_size(shown, size):
    assert shown["log10_norm"](torch.full((100,), size)) == pytest.approx(math.log10(size) + 1, abs=1e-4)


def test_its_norm_of_zeros_is_minus_infinity_and_of_nan_is_nan(shown):
    assert shown["log10_norm"](torch.zeros(3)) == -math.inf
    assert math.isnan(shown["log10_norm"](torch.tensor([1.0, math.nan])))


def test_its_run_has_a_verdict_along_the_blocks(shown, tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    shown["train"](tmp_path / "net", torch.nn.Sigmoid, steps=6)
    run = Run(tmp_path / "net")
    assert (run.status, len(run.paths), run.recorded_steps().tolist()) == ("done", 13, [1, 6])
    [row] = run.lanes().to_pylist()
    assert row["verdict"] == "vanishing"
    assert "along blocks.*.linear" in row["evidence"]
    assert run.layers()["weight_grad_zero"].null_count == 0
