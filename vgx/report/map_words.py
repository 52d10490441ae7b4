"""A trainability map in words, as terminal and page say them: its contours, and where nets stop training."""

from __future__ import annotations

from typing import NamedTuple

from vgx.results.map_cells import DIFFER
from vgx.results.map_file import DEPTHS, USUAL, TrainabilityMap
from vgx.results.map_fit import Multiple
from vgx.results.words import counted, figure


class Contour(NamedTuple):
    """Where nets are so many of theory's depths deep."""

    depth: str
    """correlation or gradient."""
    multiple: float
    words: str


def contours_of(found: TrainabilityMap, usual: bool = False) -> list[Contour]:
    """Returns the contours to draw: of each depth at its fitted multiple, or else 6 correlation depths; where known.

    With `usual`, 6 correlation depths in either case.
    """
    multiples, drawn = found.multiples, []
    for depth in DEPTHS:
        if depth in multiples:
            value = multiples[depth].value
            drawn.append(Contour(depth, value, f"{_digits(value)} {depth} depths, fitted"))
        if depth == "correlation" and (usual or depth not in multiples) and any(found.ratios[depth].values()):
            drawn.append(Contour(depth, USUAL, f"{USUAL:g} {depth} depths"))
    return drawn


def map_state(found: TrainabilityMap) -> str:
    """Returns how many cells a map has and from which accuracy a net has trained, in a line or two."""
    first = f"{len(found.x.values)} x {len(found.y.values)} cells"
    added = sum(cell.round > 0 for cell in found.cells)
    asked = max(found.file["settings"]["refine"])
    if added:
        rounds = counted(max(cell.round for cell in found.cells), "round")
        first += f", and {added:,} more in {rounds} of refinement"
    elif asked and found.file["round"] == 0:
        first += f"; no two neighbours differ by {DIFFER:g} or more yet" if len(found.accuracies) else ""
    trained = f"{found.trained:,} of {len(found.cells):,} trained"
    return f"{first}\n{trained}: {found.value.replace('_', ' ')} {found.threshold:.2f} or more"


def boundary_in_words(found: TrainabilityMap) -> list[str]:
    """Returns where nets stop training, in multiples of theory's depths with their intervals; or why not."""
    if not found.trained:
        return ["No net of the map trained: there is no boundary to fit."]
    if found.trained == sum(one is not None for one in found.accuracies.values()):
        return ["Every net of the map trained: there is no boundary to fit."]
    lines = []
    for depth in DEPTHS:
        one = found.multiples.get(depth)
        if one is not None:
            lines.append(_fitted(found, depth, one))
        elif reason := found.file["reasons"].get(depth):
            lines.append(f"No multiple of the {depth} depth: {reason}.")
        elif not any(found.ratios[depth].values()):
            lines.append(f"No multiple of the {depth} depth: it is infinite all over the map.")
        else:
            lines.append(
                f"No multiple of the {depth} depth: the boundary crosses no line along which it is left behind."
            )
    return lines


def _fitted(found: TrainabilityMap, depth: str, one: Multiple) -> str:
    line = (found.y if found.across else found.x).name
    text = f"Nets train up to {_digits(one.value)} {depth} depths"
    if one.lines == 1:
        return f"{text} (of one value of {line} alone, so without an interval)."
    text += f" (95 % interval {_digits(one.low)} to {_digits(one.high)}, over {one.lines} values of {line})"
    if depth == "correlation":
        text += f"; Schoenholz et al. 2017 saw about {USUAL:g}"
    return f"{text}."


def _digits(value: float) -> str:
    """A multiple in two figures: `0.47`, `4.7`, `47`."""
    return figure(value, "{:.2f}" if value < 1 else "{:.1f}" if value < 10 else "{:,.0f}")
