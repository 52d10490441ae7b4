"""Optimizers against optax used by hand, schedules and clipping against their formulas in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError

from vgx.config.schema import Model
from vgx.parts import CLIPS, OPTIMIZERS, SCHEDULES, Optimizer
from vgx.registry import Part
from vgx.training.model import MLP

STEPS = 20


def mask(parameters: Any) -> Any:
    """The leaves that decay, written out for the tree of `quadratic`."""
    return {name: {"kernel": True, "bias": False, "slope": False} for name in parameters}


def coupled(decay: float, rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Weight decay as a term of the gradient: what an L2 penalty gives."""
    return optax.chain(optax.add_decayed_weights(decay, mask), rule)


# What optax's own aliases do with the options of a part: learning rate, weight decay, and its own.
OPTAX: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda rate, pull: coupled(pull, optax.sgd(rate)),
    "momentum": lambda rate, pull, momentum=0.9, nesterov=False: coupled(pull, optax.sgd(rate, momentum, nesterov)),
    "rmsprop": lambda rate, pull, decay=0.9, epsilon=1e-8: coupled(pull, optax.rmsprop(rate, decay, epsilon)),
    "adagrad": lambda rate, pull, initial=0.1, epsilon=1e-7: coupled(pull, optax.adagrad(rate, initial, epsilon)),
    "adam": lambda rate, pull, b1=0.9, b2=0.999, epsilon=1e-8: coupled(pull, optax.adam(rate, b1, b2, epsilon)),
    "adamw": lambda rate, pull, b1=0.9, b2=0.999, epsilon=1e-8: optax.adamw(
        rate, b1, b2, epsilon, weight_decay=pull, mask=mask
    ),
}
DEFAULT_RATE = {"sgd": 0.1, "momentum": 0.1, "rmsprop": 0.001, "adagrad": 0.01, "adam": 0.001, "adamw": 0.001}
OPTIONS: list[dict[str, Any]] = [
    *({"name": part.name} for part in OPTIMIZERS),
    *({"name": part.name, "learning_rate": 0.05, "weight_decay": 0.3} for part in OPTIMIZERS),
    {"name": "momentum", "nesterov": True},
    {"name": "momentum", "momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
    {"name": "rmsprop", "decay": 0.5, "epsilon": 1e-2},
    {"name": "adagrad", "initial": 0.0, "epsilon": 1e-2},
    {"name": "adam", "b1": 0.5, "b2": 0.9, "epsilon": 1e-2},
    {"name": "adamw", "weight_decay": 0.0},
]
every_optimizer = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: str(OPTIMIZERS.parse(options)))


def quadratic() -> tuple[Any, Callable[[Any], Any]]:
    """Parameters of two layers, and the gradient of a quadratic bowl over them whose curvatures differ 100-fold."""
    rng = np.random.default_rng(0)
    tree = {layer: {name: jnp.asarray(rng.normal(size=4)) for name in ("kernel", "bias", "slope")} for layer in "ab"}
    curvature = jax.tree.map(lambda x: jnp.asarray(10 ** rng.uniform(-1, 1, x.shape)), tree)
    centre = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), tree)
    return tree, lambda at: jax.tree.map(lambda a, w, c: a * (w - c), curvature, at, centre)


def descend(transform: optax.GradientTransformation, steps: int = STEPS) -> Any:
    parameters, gradient = quadratic()
    state = transform.init(parameters)
    for _ in range(steps):
        updates, state = transform.update(gradient(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return parameters


def test_every_optimizer_has_a_reference():
    assert {part.name for part in OPTIMIZERS} == set(OPTAX) == set(DEFAULT_RATE)


@every_optimizer
def test_twenty_steps_are_those_of_optax_bit_for_bit(options, float64):
    optimizer = OPTIMIZERS.parse(options)
    own = {key: value for key, value in options.items() if key not in ("name", "learning_rate", "weight_decay")}
    rate = options.get("learning_rate", DEFAULT_RATE[optimizer.name])
    pull = options.get("weight_decay", 0.01 if optimizer.name == "adamw" else 0.0)
    expected = descend(OPTAX[optimizer.name](rate, pull, **own))
    jax.tree.map(np.testing.assert_array_equal, descend(optimizer.transform(optimizer.learning_rate)), expected)


def sgd(w, g, seen):
    return w - 0.1 * g


def momentum(w, g, seen):
    return w - 0.1 * sum(0.9**age * past for age, past in enumerate([g, *seen[::-1]]))


def rmsprop(w, g, seen):
    return w - 0.001 * g / np.sqrt(0.1 * sum(0.9**age * past**2 for age, past in enumerate([g, *seen[::-1]])) + 1e-8)


def adagrad(w, g, seen):
    return w - 0.01 * g / np.sqrt(0.1 + sum(past**2 for past in [g, *seen]) + 1e-7)


def adam(w, g, seen):
    ages = list(enumerate([g, *seen[::-1]]))
    mean = sum(0.9**age * past for age, past in ages) / sum(0.9**age for age, _ in ages)
    square = sum(0.999**age * past**2 for age, past in ages) / sum(0.999**age for age, _ in ages)
    return w - 0.001 * mean / (np.sqrt(square) + 1e-8)


def adamw(w, g, seen):
    return adam(w, g, seen) - 0.001 * 0.01 * w


RULES = {"sgd": sgd, "momentum": momentum, "rmsprop": rmsprop, "adagrad": adagrad, "adam": adam, "adamw": adamw}


@pytest.mark.parametrize("part", list(OPTIMIZERS), ids=lambda part: part.name)
def test_a_kernel_moves_by_the_closed_form_of_the_rule(part, float64):
    w, gradient = quadratic()
    seen: list[Any] = []
    for _ in range(STEPS):
        g = gradient(w)["a"]["kernel"]
        w["a"]["kernel"] = RULES[part.name](w["a"]["kernel"], g, seen)
        seen.append(g)
    optimizer = part()
    ours = descend(optimizer.transform(optimizer.learning_rate))
    # Running means as sums over all gradients so far, not as recursions: float64 rounds them otherwise, 20 times.
    np.testing.assert_allclose(ours["a"]["kernel"], w["a"]["kernel"], rtol=1e-12, atol=1e-14)


@pytest.fixture(scope="module")
def mlp() -> MLP:
    """A net with everything that can be learned."""
    learned = {"normalization": "batch", "activation": "prelu", "bias": {"name": "constant", "value": 0.5}}
    return MLP.draw(Model.model_validate({"depth": 3, "width": 4} | learned), 4, 2, jax.random.key(0))


@pytest.mark.parametrize("part", list(OPTIMIZERS), ids=lambda part: part.name)
def test_weight_decay_pulls_kernels_and_nothing_else(part, mlp):
    transform = part(weight_decay=0.5).transform(0.1)
    still = jax.tree.map(jnp.zeros_like, mlp)
    updates = jax.jit(lambda: transform.update(still, transform.init(mlp), mlp)[0])()
    pulled, left = [], []
    for (path, change), leaf in zip(jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(mlp), strict=True):
        if ".kernel" in jax.tree_util.keystr(path):
            pulled.append(bool((change * leaf < 0).all()))  # towards zero
        else:
            left.append(not np.any(change))
    assert pulled == [True] * 2  # the hidden stack's and the readout's
    assert left == [True] * 5  # two biases; the hidden stack's scale, offset and slope


def float_options(part: Part) -> dict[str, float]:
    fields = type(part).model_fields
    return {name: value for name, value in part if fields[name].annotation is float}


@pytest.mark.parametrize("part", list(OPTIMIZERS), ids=lambda part: part.name)
def test_an_optimizers_numbers_may_be_traced(part, float64):
    optimizer = part(weight_decay=0.3)

    @jax.jit
    def start(numbers: dict[str, Any], parameters: Any) -> Any:
        return optimizer.model_copy(update=numbers).transform(1.0).init(parameters)

    @jax.jit
    def step(numbers: dict[str, Any], parameters: Any, state: Any) -> tuple[Any, Any]:
        traced: Optimizer = optimizer.model_copy(update=numbers)
        updates, state = traced.transform(traced.learning_rate).update(gradient(parameters), state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters, gradient = quadratic()
    state = start(float_options(optimizer), parameters)
    for _ in range(STEPS):
        parameters, state = step(float_options(optimizer), parameters, state)
    expected = descend(optimizer.transform(optimizer.learning_rate))
    # float64; a compiled program may contract a product and a sum into one rounding.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-14), parameters, expected)


# Schedules. `t` counts from the end of the warm-up, of which T steps remain.

SCHEDULE_FORMULAS: dict[str, Callable[..., np.ndarray]] = {
    "constant": lambda t, T: np.ones_like(t, float),
    "cosine": lambda t, T, final=0.0: final + (1 - final) * (1 + np.cos(np.pi * t / T)) / 2,
    "step": lambda t, T, every=1000, factor=0.1: factor ** (t // every).astype(float),
}
SCHEDULE_OPTIONS: list[dict[str, Any]] = [
    *({"name": part.name} for part in SCHEDULES),
    {"name": "cosine", "final": 0.1},
    {"name": "step", "every": 7, "factor": 0.5},
    {"name": "step", "every": 1, "factor": 0.9},
]
every_schedule = pytest.mark.parametrize("options", SCHEDULE_OPTIONS, ids=lambda options: str(SCHEDULES.parse(options)))
LENGTH = 40


def test_every_schedule_has_a_formula():
    assert {part.name for part in SCHEDULES} == set(SCHEDULE_FORMULAS)


@every_schedule
@pytest.mark.parametrize("warmup", [0, 1, 5, LENGTH])
def test_schedule_is_its_formula_after_a_linear_warm_up(options, warmup, float64):
    schedule = SCHEDULES.parse(options | {"warmup": warmup})
    own = {key: value for key, value in options.items() if key != "name"}
    rise = np.arange(1, warmup + 1) / max(warmup, 1)  # from 1 / warmup to 1
    after = SCHEDULE_FORMULAS[schedule.name](np.arange(LENGTH - warmup), LENGTH - warmup, **own)
    np.testing.assert_allclose(
        schedule(jnp.arange(LENGTH, dtype=jnp.int32), LENGTH), np.concatenate([rise, after]), rtol=1e-14
    )


@every_schedule
def test_a_schedules_numbers_may_be_traced(options, float64):
    schedule = SCHEDULES.parse(options)

    def factors(numbers: dict[str, Any]) -> jax.Array:
        return schedule.model_copy(update=numbers)(jnp.arange(LENGTH), LENGTH)

    numbers = float_options(schedule)
    np.testing.assert_allclose(jax.jit(factors)(numbers), factors({}), rtol=1e-14)


def test_a_long_staircase_drops_at_the_very_step():
    step = SCHEDULES.parse({"name": "step", "every": 11_184_811, "factor": 0.5})
    third = 3 * 11_184_811  # past 2^24, where float32 no longer tells neighbours apart
    assert [float(step(jnp.int32(at), 2**30)) for at in (third - 1, third)] == [0.25, 0.125]


# Clipping.


def gradient_tree(scale: float = 1.0) -> Any:
    rng = np.random.default_rng(0)
    return {
        "kernel": jnp.asarray(scale * rng.normal(size=(60, 64)), jnp.float32),
        "bias": jnp.asarray(scale * rng.normal(size=256), jnp.float32),
    }


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def test_no_clip_changes_nothing():
    gradient = gradient_tree()
    np.testing.assert_array_equal(flat(CLIPS.parse("none")(gradient)), flat(gradient))


@pytest.mark.parametrize("limit", [0.5, 2.0, 1e9])
def test_clip_by_value_is_numpys_clip(limit):
    gradient = gradient_tree()
    clipped = CLIPS.parse({"name": "value", "limit": limit})(gradient)
    np.testing.assert_array_equal(flat(clipped), np.clip(flat(gradient), -limit, limit))


@pytest.mark.parametrize("limit", [0.5, 3.0])
# From below where a float32's square is lost to above where it is infinite; the norm is 64 times an entry.
@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1e-12, 1.0, 1e12, 1e25, 5e36])
def test_clip_by_norm_keeps_the_direction_and_brings_the_norm_to_the_limit(scale, limit):
    gradient = gradient_tree(scale)
    exact = flat(gradient)
    limit = limit * scale if scale < 1 else limit
    clipped = flat(CLIPS.parse({"name": "norm", "limit": limit})(gradient))
    # float32: a sum of 4,096 squares and two products.
    np.testing.assert_allclose(clipped, exact * limit / np.linalg.norm(exact), rtol=1e-5)


@pytest.mark.parametrize("value", [1e-23, 1e25, 1e37])
def test_clip_by_norm_holds_where_the_norm_under_or_overflows(value):
    gradient = {"kernel": jnp.full((64, 64), value, jnp.float32)}
    assert float(optax.tree.norm(gradient)) in (0.0, np.inf)  # what optax's clip goes by
    limit = min(1.0, 32 * value)  # half the norm at the most
    clipped = flat(CLIPS.parse({"name": "norm", "limit": limit})(gradient))
    np.testing.assert_allclose(clipped, limit / 64, rtol=1e-6)  # a few roundings of float32
    assert np.linalg.norm(clipped) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3])
def test_clip_by_norm_leaves_what_is_shorter_as_it_is(scale):
    gradient = gradient_tree(scale)
    np.testing.assert_array_equal(flat(CLIPS.parse({"name": "norm", "limit": 1.0})(gradient)), flat(gradient))


def test_clip_by_norm_leaves_zero_at_zero():
    zero = {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}
    assert not flat(CLIPS.parse("norm")(zero)).any()


@pytest.mark.parametrize("part", list(CLIPS), ids=lambda part: part.name)
def test_clipping_hides_no_nan(part):
    gradient = gradient_tree()
    gradient["bias"] = gradient["bias"].at[3].set(jnp.nan)
    assert np.isnan(part()(gradient)["bias"][3])


@pytest.mark.parametrize("name", ["none", "norm"])
def test_an_infinite_gradient_has_no_finite_direction(name):
    gradient = gradient_tree()
    gradient["bias"] = gradient["bias"].at[3].set(jnp.inf)
    assert not np.isfinite(CLIPS.parse(name)(gradient)["bias"][3])


@pytest.mark.parametrize("part", list(CLIPS), ids=lambda part: part.name)
def test_a_clips_numbers_may_be_traced(part):
    clip, gradient = part(), gradient_tree()
    traced = jax.jit(lambda numbers: clip.model_copy(update=numbers)(gradient))(float_options(clip))
    np.testing.assert_allclose(flat(traced), flat(clip(gradient)), rtol=1e-6)  # float32, fused or not


@pytest.mark.parametrize(
    ("registry", "case"),
    [
        (OPTIMIZERS, {"name": "sgd", "learning_rate": 0.0}),
        (OPTIMIZERS, {"name": "sgd", "weight_decay": -0.1}),
        (OPTIMIZERS, {"name": "momentum", "momentum": 1.0}),
        (OPTIMIZERS, {"name": "adam", "b2": 1.0}),
        (SCHEDULES, {"name": "constant", "warmup": -1}),
        (SCHEDULES, {"name": "step", "factor": 0.0}),
        (CLIPS, {"name": "norm", "limit": 0.0}),
    ],
    ids=str,
)
def test_options_without_a_meaning_are_refused(registry, case):
    with pytest.raises(ValidationError):
        registry.parse(case)
