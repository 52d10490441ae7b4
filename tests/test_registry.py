"""The registry: names, aliases, what is said of an unknown one, and where a part that a user registers turns up."""

from __future__ import annotations

import inspect
import io
import json
import pickle
from collections.abc import Iterator
from contextlib import suppress

import jax
import jax.numpy as jnp
import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, ValidationError
from pydantic_core import PydanticCustomError
from rich.console import Console

from vgx.config.schema import Config, json_schema
from vgx.data import DATASETS
from vgx.parts import ACTIVATIONS, BIASES, INITIALIZERS, NORMALIZATIONS, OPTIMIZERS, Activation
from vgx.registry import Part, Registry, registry_of, temporary
from vgx.report.terminal.parts import KINDS, catalogue, catalogue_json, kinds_called

EVERY_PART = [(registry, part) for registry in KINDS.values() for part in registry]
every_part = pytest.mark.parametrize(
    ("registry", "part"), EVERY_PART, ids=[f"{registry.kind}-{part.name}" for registry, part in EVERY_PART]
)


def rendered(kind: str) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(catalogue(kinds_called(kind)))
    return console.file.getvalue()


@pytest.fixture
def swoosh() -> Iterator[type[Activation]]:
    """An activation that a user registers, for the length of a test."""

    class Swoosh(Activation):
        """A softplus that leaks.

        Yao et al. 2023, arXiv:2310.11230.
        """

        leak: float = Field(default=0.08, ge=0)
        """The slope that is taken off."""

        formula = "log(1 + exp(h - 1)) - leak h"

        def __call__(self, h: jax.Array) -> jax.Array:
            return jnp.logaddexp(0.0, h - 1) - self.leak * h

    with temporary():
        yield ACTIVATIONS.register("swoosh", "whoosh")(Swoosh)


# Every part that there is.


@every_part
def test_every_part_says_what_it_is_and_where_it_comes_from(registry, part):
    # The docstring must be its own: without one, Python would show that of the class it inherits from.
    assert part.__doc__
    assert part.summary() == inspect.cleandoc(part.__doc__).splitlines()[0]
    assert part.summary().endswith(".") or part.summary().endswith(")")
    assert part.formula.strip()
    assert bool(part.source()) == (part.name != "none")  # nothing is no one's invention
    assert part.source() != part.summary()


@every_part
def test_every_option_of_every_part_is_explained(registry, part):
    assert [name for name, field in part.model_fields.items() if not field.description] == []


@every_part
def test_every_part_is_in_the_catalogue(registry, part):
    (plural,) = kinds_called(registry.kind)
    assert kinds_called(plural) == kinds_called(registry.kind) == {plural: registry}
    entry = next(entry for entry in catalogue_json(KINDS)[plural] if entry["name"] == part.name)
    json.dumps(entry)  # plain values
    assert set(entry["options"]) == set(part.model_fields)
    text = rendered(plural)
    for words in (part.name, *part.aliases, part.summary(), part.formula, *part.model_fields):
        assert words in text


@every_part
def test_name_and_aliases_choose_one_part_with_one_canonical_name(registry, part):
    required = [name for name, field in part.model_fields.items() if field.is_required()]
    if registry is DATASETS and required:
        pytest.skip("names files, which must be there")
    options = dict.fromkeys(required, 0.5)
    chosen = [registry.parse({"name": word} | options) for word in (part.name, *part.aliases)]
    assert all(type(one) is part and one == chosen[0] for one in chosen)
    assert chosen[0].model_dump()["name"] == part.name
    assert registry.parse(chosen[0].model_dump()) == chosen[0]
    assert registry.parse(chosen[0]) == chosen[0]


@pytest.mark.parametrize(
    ("registry", "alias", "name"),
    [
        (ACTIVATIONS, "sigmoid", "logistic"),
        (ACTIVATIONS, "linear", "identity"),
        (ACTIVATIONS, "swish", "silu"),
        (ACTIVATIONS, "hardtanh", "hard_tanh"),
        (INITIALIZERS, "xavier_normal", "glorot_normal"),
        (INITIALIZERS, "xavier_uniform", "glorot_uniform"),
        (INITIALIZERS, "kaiming_normal", "he_normal"),
        (INITIALIZERS, "kaiming_uniform", "he_uniform"),
        (NORMALIZATIONS, "batch_norm", "batch"),
        (NORMALIZATIONS, "layer_norm", "layer"),
        (NORMALIZATIONS, "rms_norm", "rms"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_the_fields_other_names_are_understood(registry, alias, name):
    assert registry[alias] is registry[name]
    assert registry[alias].name == name


# Names.


class Thing(Part):
    """A thing."""

    formula = "1"


class Other(Part):
    """Another thing."""

    formula = "2"


def test_a_name_or_alias_is_taken_only_once():
    things: Registry[Part] = Registry("thing")
    things.register("one", "uno")(Thing)
    for words in (("one",), ("uno",), ("two", "one"), ("two", "uno")):
        with pytest.raises(ValueError, match=f"the thing '{words[-1]}' is registered already"):
            things.register(*words)(Other)
    assert list(things) == [Thing]  # what was refused left nothing behind
    assert "two" not in things
    assert "uno" in things
    assert things["uno"] is Thing


@pytest.mark.parametrize(
    ("word", "near"),
    [("leaky_rely", "leaky_relu"), ("Tanh", "tanh"), ("sigmod", "sigmoid"), ("logistc", "logistic"), ("GELU", "gelu")],
)
def test_an_unknown_name_is_told_the_nearest(word, near):
    with pytest.raises(KeyError, match=f"no activation is called '{word}'; did you mean '{near}'?"):
        ACTIVATIONS[word]
    with pytest.raises(PydanticCustomError, match=f"no activation is called '{word}'; did you mean '{near}'?"):
        ACTIVATIONS.parse(word)


def test_a_name_like_no_other_is_told_all_that_are_known():
    with pytest.raises(PydanticCustomError) as refusal:
        BIASES.parse("qqqqqq")
    assert "known: normal, constant, zeros" in str(refusal.value)


@pytest.mark.parametrize(
    "value", [3, None, ["relu"], {}, {"negative_slope": 0.2}, {"name": 3}, {"relu": None}], ids=str
)
def test_what_names_no_part_is_told_the_two_ways_to_name_one(value):
    with pytest.raises(
        PydanticCustomError, match=r"expected the name of an activation, or \{name: \w+, ...\} with its"
    ):
        ACTIVATIONS.parse(value)


@pytest.mark.parametrize(
    "value", [{"name": "relu", "slope": 1}, {"name": "elu", "alpha": "1"}, {"name": "elu", "alpha": True}]
)
def test_options_that_a_part_has_not_or_of_another_type_are_refused(value):
    with pytest.raises(ValidationError):
        ACTIVATIONS.parse(value)


def test_parts_are_values():
    first, second = (ACTIVATIONS.parse({"name": "elu", "alpha": 0.5}) for _ in range(2))
    assert first == second != ACTIVATIONS.parse("elu")
    assert hash(first) == hash(second)
    with pytest.raises(ValidationError, match="frozen"):
        first.alpha = 0.7


@pytest.mark.parametrize(
    ("case", "shown"),
    [
        ("elu", "elu"),
        ({"name": "elu", "alpha": 0.5}, "elu (alpha: 0.5)"),
        ({"name": "elu", "alpha": 1.0}, "elu"),
        ({"name": "rrelu", "lower": 0.1, "upper": 0.2}, "rrelu (lower: 0.1, upper: 0.2)"),
    ],
    ids=str,
)
def test_a_part_is_shown_with_what_differs_from_its_defaults(case, shown):
    assert str(ACTIVATIONS.parse(case)) == shown


def test_a_configs_field_knows_its_registry():
    fields = type(Config().model).model_fields
    assert registry_of(fields["activation"]) is ACTIVATIONS
    assert registry_of(fields["bias"]) is BIASES
    assert registry_of(fields["depth"]) is None


# A part that a user registers.


def test_a_users_activation_is_chosen_by_a_config(swoosh):
    config = Config.model_validate({"model": {"activation": {"name": "whoosh", "leak": 0.1}}})
    assert config.model.activation == swoosh(leak=0.1)
    assert config.model_dump()["model"]["activation"] == {"name": "swoosh", "leak": 0.1}


def test_a_users_activation_is_in_the_catalogue(swoosh):
    text = rendered("activations")
    for words in ("swoosh  (or whoosh)", "A softplus that leaks.", swoosh.formula, "leak: 0.08", "arXiv:2310.11230"):
        assert words in text
    entry = catalogue_json(KINDS)["activations"][-1]
    assert (entry["name"], entry["aliases"], entry["options"]) == ("swoosh", ["whoosh"], {"leak": {"default": 0.08}})


def test_a_users_activation_is_in_the_json_schema(swoosh):
    validator = Draft202012Validator(json_schema())
    for allowed in ("swoosh", "whoosh", {"name": "swoosh"}, {"name": "swoosh", "leak": 0.2}):
        validator.validate({"model": {"activation": allowed}})
    for refused in ("swoo", {"name": "swoosh", "leak": -1.0}, {"name": "swoosh", "lek": 0.2}):
        assert not validator.is_valid({"model": {"activation": refused}})


def test_a_function_is_all_that_a_users_activation_needs(swoosh):
    @ACTIVATIONS.register("square")
    class Square(Activation):
        def __call__(self, h: jax.Array) -> jax.Array:
            return h * h

    assert "square" in rendered("activations")
    Draft202012Validator(json_schema()).validate({"model": {"activation": "square"}})
    assert isinstance(Config.model_validate({"model": {"activation": "square"}}).model.activation, Square)


def test_what_is_registered_for_a_while_is_forgotten_after_and_what_was_there_is_not():
    with suppress(ZeroDivisionError), temporary():

        @ACTIVATIONS.register("brief", "short")
        class Brief(Activation):
            def __call__(self, h: jax.Array) -> jax.Array:
                return h

        assert isinstance(ACTIVATIONS.parse("short"), Brief)
        raise ZeroDivisionError
    assert [name for name in ("brief", "short", "relu") if name in ACTIVATIONS] == ["relu"]
    assert not Draft202012Validator(json_schema()).is_valid({"model": {"activation": "brief"}})


def test_one_class_may_be_filed_in_two_registries():
    assert INITIALIZERS["normal"] is BIASES["normal"]
    assert {part.name for part in BIASES} <= {part.name for part in INITIALIZERS}


def test_optimizers_speak_of_their_schedule_by_name():
    sgd = OPTIMIZERS.parse({"name": "sgd", "schedule": "cosine"})
    assert sgd.model_dump()["schedule"] == {"name": "cosine", "warmup": 0, "final": 0.0}


def test_equal_parts_hash_alike_and_another_part_of_the_same_options_does_not():
    class Listed(Activation):
        slopes: list[float]

    assert {Listed(slopes=[0.5, 2.0]): 1}[Listed(slopes=[0.5, 2.0])] == 1
    bare = [part for part in ACTIVATIONS if not part.model_fields]
    assert len({hash(part()) for part in bare}) == len(bare) > 3


def test_a_part_and_a_section_hash_by_class_and_values_in_every_process():
    one = Config.model_validate({"model": {"depth": 3}, "train": {"optimizer": {"name": "sgd", "learning_rate": 0.5}}})
    for value in (one, one.model, one.train.optimizer):
        assert value in {value}  # the hash is worked out, and kept
        assert hash(value.model_copy()) == hash(value)
        assert pickle.loads(pickle.dumps(value)) == value
        assert "_hash" not in value.__getstate__()["__dict__"]
    other = one.train.optimizer.model_copy(update={"learning_rate": 0.25})
    assert hash(other) == hash(type(other)(learning_rate=0.25)) != hash(one.train.optimizer)
    assert other == type(other)(learning_rate=0.25)
    assert dict(one.train.optimizer).keys() == type(one.train.optimizer).model_fields.keys()
