"""Layers by name: shortened, in blocks, and as the chains along which a verdict is given."""

from __future__ import annotations

import numpy as np
import pytest

from vgx.results.alignment import align
from vgx.results.layer_names import block_names, blocks_of, chains_of, short_names
from vgx.results.verdict import LayerCurves, judge

ROLES = ("attn.qkv", "attn.out", "mlp.up", "mlp.down")
TRANSFORMER = ["embed", *(f"blocks.{i}.{role}" for i in range(12) for role in ROLES), "head"]
CNN = ["conv1", "conv2", "linear1", "linear2"]
RESNET = ["conv1", *(f"layer{i}.{j}.conv{k}" for i in (1, 2, 3, 4) for j in (0, 1) for k in (1, 2)), "fc"]
SEQUENTIAL = ["0", "2", "4", "6"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["model.decoder.a", "model.decoder.b.c"], ["a", "b.c"]),
        (["model.layers.0", "model.layers.1"], ["layers.0", "layers.1"]),  # a number alone says nothing
        (SEQUENTIAL, SEQUENTIAL),
        (["only.one"], ["only.one"]),
        (["a", "a.b"], ["a", "a.b"]),
        (
            ["encoder.transformer_layer_with_a_name.attention.query", "head"],
            ["encoder…attention.query", "head"],
        ),
    ],
)
def test_names_leave_out_what_all_begin_with_and_the_middle_of_long_ones(paths, names):
    shown = short_names(paths)
    assert [len(name) <= 28 for name in shown] == [True] * len(paths)
    assert shown == names


def test_names_stay_different_however_long_that_takes():
    paths = [f"{'x' * 30}.{i}.{'y' * 40}" for i in range(200)]
    assert len(set(short_names(paths))) == 200


@pytest.mark.parametrize(
    ("paths", "blocks"),
    [
        (["blocks.3.mlp.up", "blocks.4.mlp.up"], ["blocks.3", "blocks.4"]),
        (["blocks.0.mlp.up", "head"], ["blocks.0", ""]),  # a single one
        (["layer1.0.conv2", "layer1.1.conv2", "layer2.0.conv2"], ["layer1.0", "layer1.1", "layer2.0"]),
        (["h_3.attn", "h_4.attn"], ["h_3", "h_4"]),
        (["layers.0.heads.1.q", "layers.1.heads.1.q"], ["layers.0", "layers.1"]),
        (["layers.0", "layers.1"], ["", ""]),
        (["conv1", "embed", "conv1.conv"], ["", "", "conv1"]),
        (["0.0.0", "0.1.0", "0.2.0", "1"], ["0.0", "0.1", "0.2", ""]),  # nn.Sequential in nn.Sequential
    ],
)
def test_a_block_ends_with_the_first_number_that_has_others_beside_it(paths, blocks):
    assert block_names(paths) == blocks


def test_blocks_are_neighbours():
    assert [(block.name, block.stop - block.start) for block in blocks_of(TRANSFORMER)] == [
        ("", 1),
        *((f"blocks.{i}", 4) for i in range(12)),
        ("", 1),
    ]


@pytest.mark.parametrize(
    ("paths", "chains"),
    [
        (TRANSFORMER, {f"blocks.*.{role}": list(range(1 + i, 49, 4)) for i, role in enumerate(ROLES)}),
        (RESNET, {"layer*.*.conv1": list(range(1, 17, 2)), "layer*.*.conv2": list(range(2, 17, 2))}),
        (SEQUENTIAL, {"*": [0, 1, 2, 3]}),
        (CNN, {}),
        (["0.0.0", "0.1.0", "0.2.0", "1"], {"0.*.0": [0, 1, 2]}),
        (["convs.0", "convs.1", "a", "b", "c"], {}),  # most layers are in no chain
        (["blocks.3.experts.0.up", "blocks.4.experts.0.up"], {"blocks.*.experts.0.up": [0, 1]}),
    ],
)
def test_the_same_role_in_every_block_is_a_chain(paths, chains):
    assert chains_of(paths) == chains


def test_the_chain_that_changes_most_gives_the_verdict():
    delta = np.zeros(50)
    delta[3:49:4] = 0.25 * (np.arange(12) - 11)  # mlp.up, falling toward the input
    delta[1:49:4] = 0.05 * (np.arange(12) - 11)
    verdict = judge(LayerCurves(delta), paths=TRANSFORMER)
    assert (verdict.word, round(verdict.slope, 6)) == ("vanishing", -0.25)
    assert verdict.evidence == (
        "the gradient shrinks on its way down; in 1 of 4 block paths, most along blocks.*.mlp.up: "
        "-0.250 decades per block (-5.0 dB, fitted), -2.8 from blocks.11 to blocks.0"
    )


def test_layers_of_other_roles_do_not_make_a_net_vanish():
    delta = np.where(np.arange(50) % 4 == 1, -3.0, 0.0)  # one role's gradient is small in every block alike
    assert judge(LayerCurves(delta), paths=TRANSFORMER).word == "healthy"


def test_a_net_without_blocks_is_judged_in_the_order_of_the_forward_pass():
    verdict = judge(LayerCurves(np.array([-4.0, -3.0, -2.0, -1.0])), paths=CNN)
    assert (verdict.word, verdict.slope) == ("vanishing", -1.0)
    assert verdict.evidence == (
        "the gradient shrinks on its way down; in the order of the forward pass: -1.000 decades per layer "
        "(-20.0 dB, fitted), -3.0 from linear2 to conv1"
    )


@pytest.mark.parametrize(
    ("column", "values", "word", "said"),
    [
        ("delta_log10", [0, -np.inf, 0, 0], "vanishing", "no gradient reaches conv2"),
        ("weight_grad_zero", [1.0, np.nan, 0, 0], "vanishing", "the optimizer sees only zeros in conv1"),
        ("dead", [np.nan, 1.0, np.nan, np.nan], "dead", "every unit of conv2 is dead"),
        ("dead", [0.1, np.nan, 0.97, np.nan], "dead", "97% of the units of linear1 are dead"),
        ("saturated", [np.nan, 0.99, 0.99, np.nan], "saturated", "99% of the median layer's entries"),
        ("dead", [np.nan] * 4, "healthy", "the gradient keeps its size"),
    ],
)
def test_a_fault_is_named_by_its_layer_and_counts_what_was_measured(column, values, word, said):
    curves = {"delta_log10": np.zeros(4), column: np.array(values, float)}
    verdict = judge(LayerCurves(**curves), paths=CNN)
    assert verdict.word == word
    assert verdict.evidence.startswith(said)


def test_layers_of_one_path_stand_side_by_side():
    found = align([["a", "b", "c", "d"], ["x", "c", "b"]], [4, 3], [np.ones(4, bool), np.ones(3, bool)])
    assert found.paths == ("b", "c")
    assert found.alone == (("a", "d"), ("x",))
    assert found.at(0, np.array([10, 20, 30, 40])).tolist() == [20, 30]
    assert found.at(1, np.array([1, 2, 3])).tolist() == [3, 2]


def test_layers_that_lack_the_statistic_are_left_out():
    found = align([["a", "b"], ["a", "b"]], [2, 2], [np.array([True, False]), np.ones(2, bool)])
    assert (found.paths, found.alone) == (("a",), ((), ()))


@pytest.mark.parametrize("others", [["x", "y"], []])
def test_nets_without_a_common_path_are_aligned_by_depth(others):
    found = align([["a", "b", "c"], others], [3, 2], [np.ones(3, bool), np.ones(2, bool)])
    assert found.paths == ()
    assert found.at(1, np.array([0.0, 1.0])).tolist() == [0.0, 0.5, 1.0]
