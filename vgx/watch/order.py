"""In which order a function meets its taps: read off what jax traced, so that nothing is kept between calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vgx.watch.sums import COUNT


def order_of_taps(jaxpr: Any, probes: Sequence[int]) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Returns, for each probe that a tap received, when it first did and the shape of what went through.

    A probe is followed from the inputs through scans, branches and calls, and through what slices or reshapes it.

    Args:
        jaxpr: of the function.
        probes: which of its inputs are probes.
    """
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    _walk(jaxpr, {jaxpr.invars[at]: number for number, at in enumerate(probes)}, found)
    return found


def _walk(jaxpr: Any, known: dict[Any, int], found: dict[int, tuple[int, tuple[int, ...]]]) -> dict[Any, int]:
    """Follows the probes among the variables of a jaxpr, notes taps in `found`, and returns all variables that are
    probes."""
    for equation in jaxpr.eqns:
        numbers = [known.get(of) if _is_variable(of) else None for of in equation.invars]
        met = {number for number in numbers if number is not None}
        if not met:
            continue
        inner = list(_inner(equation))
        last = numbers[-1]
        if last is not None and _is_tap(equation):
            found.setdefault(last, (len(found), equation.invars[-2].aval.shape))
        elif inner:
            for body, first in inner:
                inside = dict(zip(body.invars, numbers[first : first + len(body.invars)], strict=True))
                inside = _walk(body, {of: number for of, number in inside.items() if number is not None}, found)
                for of, outer in zip(body.outvars, equation.outvars, strict=False):
                    if _is_variable(of) and of in inside:
                        known[outer] = inside[of]
        elif len(met) == 1:
            known |= dict.fromkeys(equation.outvars, met.pop())
    return known


def _is_tap(equation: Any) -> bool:
    """Whether an equation whose last input is a probe is a tap: a custom_vjp that holds no other one."""
    if not equation.primitive.name.startswith("custom_vjp_call") or len(equation.invars) < 2:
        return False
    within = (inner.primitive.name for inner in equation.params["call_jaxpr"].jaxpr.eqns)
    probe = equation.invars[-1].aval.shape[-1:] >= (COUNT,)
    return probe and not any(name.startswith("custom_vjp_call") for name in within)


def _inner(equation: Any):
    """Yields the jaxprs that an equation runs, and from which of its inputs on theirs come."""
    name, params = equation.primitive.name, equation.params
    if name == "while":
        yield params["body_jaxpr"].jaxpr, params["cond_nconsts"]
    elif name == "cond":
        for branch in params["branches"]:
            yield branch.jaxpr, 1
    else:
        for value in params.values():
            body = getattr(value, "jaxpr", value)
            if hasattr(body, "eqns") and len(body.invars) == len(equation.invars):
                yield body, 0


def _is_variable(of: Any) -> bool:
    return not hasattr(of, "val")
