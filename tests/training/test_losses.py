"""Cross entropy and the mean squared error: what torch makes of them, in a whole run and in what is measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import vgx
from vgx.data import Dataset, Split
from vgx.parts.losses import LOSSES
from vgx.theory.predict import net_of, predict, source_of
from vgx.training.batches import Batches
from vgx.training.model import MLP
from vgx.training.step import lane_keys

STEPS, BATCH, RATE = 5, 12, 0.1
SETTINGS = {
    "data": {"name": "synthetic", "examples": 60, "features": 6, "classes": 3},
    "model": {"width": [8, 8], "activation": "tanh", "bias": {"name": "normal", "std": 0.1}},
    "train": {
        "batch_size": BATCH,
        "steps": STEPS,
        "evaluate_every": 2,
        "precision": "float64",
        "optimizer": {"name": "sgd", "learning_rate": RATE},
    },
}


def of_torch(loss: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean over examples."""
    if loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(logits, labels)
    wanted = torch.nn.functional.one_hot(labels, logits.shape[1]).to(logits)
    return torch.nn.functional.mse_loss(logits, wanted, reduction="sum") / 2 / len(labels)


def trained_by_torch(loss: str, config: vgx.Config, data: Dataset) -> tuple[list[float], list[float], float]:
    """The training loss and log10 of the root mean square of the readout's delta at each step, and the test loss."""
    with jax.enable_x64(True):
        key = lane_keys(jax.random.key(0))[0]
        mlp = MLP.draw(config.model, data.train.images.shape[1], data.classes, key)
        stacks = [(np.asarray(stack.kernel[...]), np.asarray(stack.bias[...])) for stack in mlp.stacks]
    layers = [[torch.tensor(x[i], requires_grad=True) for x in stack] for stack in stacks for i in range(len(stack[0]))]
    batches = Batches((0,), len(data.train.labels), BATCH)

    def loss_of(split: Split, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.tensor(split.images[index].astype(np.float64) / data.scale)
        for kernel, bias in layers[:-1]:
            x = torch.tanh(x @ kernel + bias)
        logits = x @ layers[-1][0] + layers[-1][1]
        logits.retain_grad()
        return of_torch(loss, logits, torch.tensor(split.labels[index]).long()), logits

    losses, deltas = [], []
    for step in range(STEPS):
        value, logits = loss_of(data.train, batches.at(step)[0])
        value.backward()
        losses.append(value.item())
        assert logits.grad is not None
        deltas.append(np.log10(np.sqrt(BATCH) * logits.grad.norm().item()))
        with torch.no_grad():
            for parameter in (one for layer in layers for one in layer):
                assert parameter.grad is not None
                parameter -= RATE * parameter.grad
                parameter.grad = None
    return losses, deltas, loss_of(data.test, np.arange(len(data.test.labels)))[0].item()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_has_the_losses_and_the_gradients_that_torch_has(loss, tmp_path):
    config = vgx.load_config(SETTINGS | {"train": SETTINGS["train"] | {"loss": loss}})
    losses, deltas, test = trained_by_torch(loss, config, config.data.load())
    run = vgx.train(config, runs=tmp_path)
    metrics = run.metrics()
    # float64, and five steps of sums in another order; inputs are float32 on both sides.
    np.testing.assert_allclose(metrics["train_loss"].to_numpy(), losses, rtol=1e-9)
    assert metrics["test_loss"].to_pylist()[-1] == pytest.approx(test, rel=1e-9)
    np.testing.assert_allclose(run.curves("delta_log10")[0].values[:, -1], deltas, atol=1e-9)


def test_the_gradient_of_the_mean_squared_error_is_logits_less_label(float64):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(7, 4)), random.integers(0, 4, 7)
    gradient = jax.grad(lambda f: jnp.sum(LOSSES["mse"](f, jnp.asarray(labels))))(jnp.asarray(logits))
    np.testing.assert_allclose(gradient, logits - np.eye(4)[labels], rtol=1e-14)


def test_runs_are_told_apart_by_their_loss_and_those_from_before_keep_their_names():
    plain, other = ({"name": "net"}, {"name": "net", "train": {"loss": "mse"}})
    said = {"name": "net", "train": {"loss": "cross_entropy"}}
    assert vgx.load_config(plain).digest == vgx.load_config(said).digest != vgx.load_config(other).digest
    assert "loss: cross_entropy" in vgx.load_config(plain).to_yaml()


def test_theory_has_another_law_for_the_residuals_of_each_loss():
    configs = [vgx.load_config(SETTINGS | {"train": SETTINGS["train"] | {"loss": loss}}) for loss in LOSSES]
    source = source_of(configs[0].data.load(), "unit")
    assert [net_of(config, source).loss for config in configs] == list(LOSSES)
    ours, theirs = (predict(config, source).curves for config in configs)
    assert np.abs(ours.band - theirs.band)[:-1].min() > 0.001
