"""The step: measuring changes nothing, lanes keep to themselves, a net learns what torch says it should."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

import vgx
from vgx.config.schema import Config
from vgx.data import Dataset, Split
from vgx.training.batches import Batches, next_chunk
from vgx.training.chunks import make_chunk, make_evaluate
from vgx.training.inputs import encode, to_device
from vgx.training.lanes import lane_axes, make_initial_states, make_lanes, spread_over
from vgx.training.model import MLP
from vgx.training.probes import log2_norm
from vgx.training.program import Program, fill, shared_config

torch.set_num_threads(1)
STEPS = 6


def dataset(features: int = 12, examples: int = 64) -> Dataset:
    random = np.random.default_rng(0)

    def split(n: int) -> Split:
        return Split(random.integers(0, 256, (n, features), np.uint8), random.integers(0, 10, n).astype(np.int32))

    train, test = split(examples), split(23)
    unit = train.images / 255
    return Dataset(
        "noise", train, None, test, 255.0, 10, unit.mean(0).astype(np.float32), unit.std(0).astype(np.float32), "0"
    )


def train(settings: dict, seeds: tuple[int, ...] = (0, 1), every: int = 1, statistics: str = "none"):
    """Final state and every step's report of a small net, as NumPy trees."""
    model = {"depth": 4, "width": 8} | settings.get("model", {})
    train = {"batch_size": 8, "steps": STEPS} | settings.get("train", {})
    log = {"statistics": statistics, "every": every}
    config = Config.model_validate({"seeds": list(seeds), "model": model, "train": train, "log": log})
    data = dataset()
    program = Program(shared_config(config), 12, 10)
    rates = settings.get("rates", [config.train.optimizer.learning_rate] * len(seeds))
    optimizer = config.train.optimizer
    trains = [config.train.model_copy(update={"optimizer": fill(optimizer, {"learning_rate": r})}) for r in rates]
    configs = [config.model_copy(update={"train": train}) for train in trains]
    mesh = spread_over(jax.devices()[: settings.get("devices", 1)], len(seeds))
    lane, images = make_lanes(configs, seeds, STEPS), to_device(data.train, data)
    lane = lane._replace(order=np.zeros(len(seeds), np.int32))
    state = make_initial_states(program, configs, mesh)(lane, images, np.arange(8))
    batches = Batches((5,), 64, 8)
    indices = np.stack([batches.at(step) for step in range(STEPS)]).reshape(STEPS // every, every, 1, 8)
    lengths = np.full(STEPS // every, every, np.int32)
    state, log = make_chunk(program, STEPS // every, mesh)(state, lane, images, indices, lengths)
    return program, jax.tree.map(np.asarray, state), jax.tree.map(np.asarray, log)


def same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def assert_measuring_changes_nothing(settings: dict) -> None:
    _, plain, report = train(settings)
    for statistics, every in (("full", 1), ("lite", 3)):
        _, state, log = train(settings, every=every, statistics=statistics)
        assert same(plain, state), (statistics, every)
        assert np.array_equal(report.scalars.train_loss.ravel(), log.scalars.train_loss.ravel()), (statistics, every)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"model": {"activation": "relu"}}, id="relu"),
        pytest.param(
            {"model": {"activation": "elu", "normalization": "layer"}, "train": {"optimizer": "adam"}},
            marks=pytest.mark.slow,
            id="elu layer adam",
        ),
        pytest.param(
            {
                "model": {"activation": "rrelu", "normalization": "batch", "dropout": 0.2},
                "train": {"optimizer": "rmsprop", "clip": "norm"},
            },
            id="rrelu batch dropout rmsprop clip",
        ),
        pytest.param(
            {"model": {"activation": "prelu", "normalization": {"name": "rms", "placement": "after"}}},
            marks=pytest.mark.slow,
            id="prelu rms after",
        ),
    ],
)
def test_weights_and_losses_are_the_same_bits_with_and_without_probes(settings):
    assert_measuring_changes_nothing(settings)


def test_a_lane_is_the_same_alone_and_beside_one_that_diverges():
    with jax.enable_x64(True):
        settings = {"train": {"precision": "float64"}}
        program, alone, report = train(settings, seeds=(3,), statistics="standard")
        _, company, log = train(settings | {"rates": [0.1, 1e30]}, seeds=(3, 4), statistics="standard")
        assert not np.isfinite(log.scalars.train_loss[-1, 0, 1])
        # float64 rounds at 1e-16; a batched product may add in another order, and six steps amplify that a little.
        np.testing.assert_allclose(log.scalars.train_loss[..., 0], report.scalars.train_loss[..., 0], rtol=1e-11)
        for ours, theirs in zip(jax.tree.leaves(report.records), jax.tree.leaves(log.records), strict=True):
            np.testing.assert_allclose(theirs[:, 0], ours[:, 0], rtol=1e-9, atol=1e-12)
        axes = jax.tree.leaves(lane_axes(program))
        for a, b, axis in zip(jax.tree.leaves(alone), jax.tree.leaves(company), axes, strict=True):
            np.testing.assert_allclose(b.take(0, axis), a.take(0, axis), rtol=1e-9, atol=1e-12)


def test_each_lane_of_adagrad_starts_from_its_own_sum_of_squares():
    configs = [
        Config.model_validate(
            {"model": {"width": [5]}, "train": {"optimizer": {"name": "adagrad", "initial": initial}}}
        )
        for initial in (0.1, 0.7)
    ]
    program, mesh = Program(shared_config(configs[0]), 12, 10), spread_over(jax.devices()[:1], 2)
    state = make_initial_states(program, configs, mesh)(
        make_lanes(configs, (0, 0), STEPS), to_device(dataset().train, dataset()), 0
    )
    axes = lane_axes(program).optimizer
    for leaf, axis in zip(jax.tree.leaves(state.optimizer), jax.tree.leaves(axes), strict=True):
        lanes = np.moveaxis(np.asarray(leaf), axis, 0).reshape(2, -1)
        np.testing.assert_array_equal(lanes, np.broadcast_to(np.float32([[0.1], [0.7]]), lanes.shape))


def test_a_mixed_net_has_the_loss_and_the_gradient_that_torch_gives_it():
    with jax.enable_x64(True):
        norm = {"name": "layer", "placement": "after"}
        model = Config.model_validate(
            {
                "model": {
                    "width": [7, 7, 5],
                    "activation": "elu",
                    "normalization": norm,
                    "bias": {"name": "normal", "std": 0.1},
                }
            }
        ).model
        mlp = MLP.draw(model, 12, 10, jax.random.key(0))
        random = np.random.default_rng(1)
        x, labels = random.normal(size=(9, 12)), random.integers(0, 10, 9)

        def loss(mlp):
            logits, _, _ = mlp(x, np.zeros(()), None, None, "none")
            return -jax.nn.log_softmax(logits)[np.arange(9), labels].mean()

        value, gradient = jax.value_and_grad(loss)(mlp)
        h, pairs = torch.tensor(x), []
        for stack, of in zip(mlp.stacks, gradient.stacks, strict=True):
            for i in range(stack.kernel.shape[0]):
                w, b = (torch.tensor(np.asarray(p[...][i]), requires_grad=True) for p in (stack.kernel, stack.bias))
                pairs += [(w, of.kernel[...][i]), (b, of.bias[...][i])]
                h = h @ w + b
                if stack.affine is not None:
                    h = torch.nn.functional.layer_norm(torch.nn.functional.elu(h), h.shape[1:], eps=1e-5)
        reference = torch.nn.functional.cross_entropy(h, torch.tensor(labels))
        reference.backward()
        assert abs(float(value) - reference.item()) < 1e-12
        for theirs, ours in pairs:
            np.testing.assert_allclose(np.asarray(ours), theirs.grad.numpy(), rtol=1e-8, atol=1e-12)


def test_a_scan_over_a_stack_is_a_loop_over_its_layers():
    with jax.enable_x64(True):
        mlp = MLP.draw(
            Config.model_validate({"model": {"depth": 6, "width": 12, "activation": "tanh"}}).model,
            12,
            10,
            jax.random.key(0),
        )
        assert mlp.counts == (6, 1)
        x = np.random.default_rng(0).normal(size=(5, 12))
        logits, _, _ = mlp(x, np.zeros(()), None, None, "none")
        for i in range(6):
            x = np.tanh(x @ np.asarray(mlp.stacks[0].kernel[...][i]) + np.asarray(mlp.stacks[0].bias[...][i]))
        x = x @ np.asarray(mlp.stacks[1].kernel[...][0]) + np.asarray(mlp.stacks[1].bias[...][0])
        np.testing.assert_allclose(np.asarray(logits), x, rtol=1e-12, atol=1e-14)


def test_the_gradient_of_all_parameters_is_as_long_as_the_gradient_of_each_together():
    for norm in ("none", "layer"):
        _, _, log = train({"model": {"normalization": norm}}, seeds=(0,), statistics="lite")
        layers = log.records.layers
        parts = 10.0 ** np.stack([layers.weight_grad_log10, layers.bias_grad_log10])
        together = np.log10(np.sqrt((parts**2).sum((0, -1))))
        if norm == "none":
            np.testing.assert_allclose(log.records.gradient_log10, together, atol=1e-5)
        else:
            assert (log.records.gradient_log10 > together).all()


@pytest.mark.parametrize("kind", ["unit", "centered", "standardized", "binary"])
def test_inputs_are_encoded_as_numpy_would(kind):
    data = dataset()
    unit = data.train.images[:5].astype(np.float32) / np.float32(255)
    wanted = {
        "unit": unit,
        "centered": unit - 0.5,
        "standardized": (unit - data.mean) / data.std,
        "binary": (unit >= 0.5).astype(np.float32),
    }[kind]
    ours = encode(to_device(data.train, data), np.arange(5), kind, np.dtype(np.float32))
    np.testing.assert_allclose(np.asarray(ours), wanted, rtol=1e-6, atol=1e-7)


def test_an_evaluation_is_the_mean_over_every_example(monkeypatch):
    monkeypatch.setattr("vgx.training.step.EVALUATION_BATCH", 10)  # 23 examples: three batches, the last one cut short
    program, state, _ = train({}, seeds=(0,))
    data = dataset()
    loss, accuracy = make_evaluate(program, spread_over(jax.devices(), 1))(state, to_device(data.test, data))
    x = data.test.images.astype(np.float64) / 255
    for i, stack in enumerate(state.model.stacks):
        for j in range(stack.kernel.shape[0]):
            x = x @ np.asarray(stack.kernel[...][j, 0], float) + np.asarray(stack.bias[...][j, 0], float)
            x = np.maximum(x, 0) if i < len(state.model.stacks) - 1 else x
    log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
    assert abs(float(loss[0]) + log_p[np.arange(23), data.test.labels].mean()) < 1e-5
    assert float(accuracy[0]) == pytest.approx(np.mean(x.argmax(1) == data.test.labels))


def test_every_example_comes_once_an_epoch_and_each_seed_has_its_own_order():
    batches = Batches((0, 1), 20, 5)
    epoch = np.concatenate([batches.at(step) for step in range(4)], axis=1)
    assert all(sorted(order) == list(range(20)) for order in epoch)
    assert not np.array_equal(epoch[0], epoch[1])
    assert not np.array_equal(batches.at(0), batches.at(4))
    assert np.array_equal(Batches((1,), 20, 5).at(7)[0], batches.at(7)[1])


def test_pieces_cover_every_step_once_and_record_the_first_of_each_period():
    for every, stops in ((1, [10]), (3, [7, 14, 20]), (300, [500]), (4, [4, 8])):
        done, recorded = 0, []
        for stop in stops:
            while done < stop:
                piece = next_chunk(done, stop, every, (5, min(every, 256)), 3)
                if piece.recorded:
                    recorded += list(np.cumsum((done, *piece.lengths[:-1])))
                done += piece.steps
            assert done == stop
        assert recorded == list(range(0, stops[-1], every))


def test_log2_norm_of_entries_that_cancel_is_finite():
    assert float(log2_norm(np.float32([1e-30, 0.3, -0.3]))) == pytest.approx(np.log2(0.3 * np.sqrt(2)), rel=1e-6)
    assert float(log2_norm(np.float32([0, 1e-30, -1e-30]))) == pytest.approx(np.log2(1e-30 * np.sqrt(2)), rel=1e-6)


def test_a_plain_logistic_net_loses_0_63_decades_per_layer(tmp_path):
    settings = {
        "model": {"depth": 100, "width": 64, "activation": "logistic", "initializer": "lecun_normal"},
        "train": {"steps": 1},
    }
    run = vgx.train(vgx.load_config(settings), runs=tmp_path)
    # Theory: -0.627. Finite width moves the slope by about sqrt(5 / (n L)) / ln 10 / 2 = 0.006; three times that.
    assert run.lanes()["slope"][0].as_py() == pytest.approx(-0.627, abs=0.018)
    zero = run.layers()["weight_grad_zero"].to_numpy()
    assert zero[0] == 1
    assert zero[-1] < 1


def test_a_program_does_not_depend_on_how_long_it_trains_and_its_schedule_does():
    def of(steps: int):
        settings = {"train": {"steps": steps, "optimizer": {"name": "sgd", "schedule": "cosine"}}}
        return Config.model_validate(settings)

    short, long = of(STEPS), of(100 * STEPS)
    assert Program(shared_config(short), 12, 10) == Program(shared_config(long), 12, 10)
    schedule = jax.jit(lambda step, steps: short.train.optimizer.schedule(step, steps))
    for config in (short, long):
        steps = config.train.steps or 0
        assert float(schedule(steps // 2, steps)) == pytest.approx(0.5, rel=1e-6)
