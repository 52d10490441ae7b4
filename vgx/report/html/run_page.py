"""What a run's page says in its HTML, as the plain values that its template lays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vgx.report.html.captions import COURSES, DEFINITIONS, OF_NAMED, captions, course_of
from vgx.report.html.encode import TOLD, seeds_menu
from vgx.report.html.findings import FINDINGS, members
from vgx.report.html.headline import tiles, words_of
from vgx.report.html.page_data import Contents
from vgx.report.words import describe_config
from vgx.results.columns import LAYERS
from vgx.results.nonfinite import first_not_finite
from vgx.results.verdict import Places
from vgx.results.words import speed_of

TITLES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "learning_rate": "Learning rate",
    "sharpness": "Sharpness",
    "stability": "Learning rate x sharpness / 2",
    "square_log10": "Jacobian: mean square",
    "spread": "Jacobian: spread",
    "isometry_gap": "Jacobian: isometry gap",
}


def run_page(contents: Contents) -> dict[str, Any]:
    """Returns what the template of a run's page names."""
    meta, lanes = contents.meta, range(len(contents.lanes))
    status = f"{meta['status']} at step {meta['step']:,} after {meta['seconds']:.1f} s{speed_of(meta)}"
    return lane_figures(contents, members(contents)) | {
        "status": status + (f"; {len(lanes)} seeds side by side" if len(lanes) > 1 else ""),
        "lanes": seeds_menu(contents, lanes) if len(lanes) > 1 else [],
    }


def _verdict(contents: Contents, i: int, shown: Sequence[int]) -> dict[str, Any]:
    row = contents.lanes[i]
    return {
        "word": contents.verdict(i),
        "name": contents.label(i) if len(contents.lanes) > 1 else "",
        "evidence": row.get("error") or row.get("evidence") or "",
        "held": contents.held[i] or "",
        "hidden": i not in shown[:TOLD],
    }


def lane_figures(contents: Contents, lanes: Sequence[int]) -> dict[str, Any]:
    """Returns what the pages of runs and of sweeps both name: the run, and the figures of the lanes shown first."""
    return {
        "title": str(contents.config["name"]),
        "net": describe_config(contents.config, contents.options),
        "notes": notes_on(contents),
        "thinned": thinning(contents),
        "said": dict.fromkeys(("no-layers", "gradient", "weights", *FINDINGS), "") | captions(contents, lanes),
        "about_of": DEFINITIONS | (OF_NAMED if contents.paths else {}),
        "ends_of_layers": _ends(contents, lanes),
        "words": words_of(contents, lanes),
        "tiles": tiles(contents, lanes),
        "verdicts": [_verdict(contents, i, lanes) for i in range(len(contents.lanes))],
        "statistics": [(name, LAYERS[name].label) for name in contents.statistics],
        "courses": [(key, TITLES[key], had) for key, names in COURSES.items() if (had := course_of(contents, names))],
        "config": yaml.safe_dump(contents.config, sort_keys=False, allow_unicode=True),
        "facts": _facts(contents.meta, len(contents.lanes), len(contents.paths)),
        "where": str(contents.run.path),
    }


def _ends(contents: Contents, lanes: Sequence[int]) -> tuple[str, str]:
    """What the map's first and last layer are called."""
    number = contents.axis_of[lanes[0]]
    names = () if number is None else contents.axes[number].names
    return (names[0], names[-1]) if names else ("layer 1", "readout")


def notes_on(contents: Contents) -> list[str]:
    """Returns what a reader must know first: that the run has not ended, and where it broke."""
    status, step = contents.meta["status"], contents.meta["step"]
    notes = []
    if status == "interrupted":
        notes.append(
            f"This run was interrupted at step {step:,} and can be resumed: what is here is what it had written."
        )
    elif status != "done":
        notes.append(f"This run is noted as {status}, at step {step:,}: what is here is what it had written.")
    return notes + ([] if contents.is_sweep else _not_finite(contents))


def _not_finite(contents: Contents) -> list[str]:
    """Where NaN or infinity began in each lane that is told of, a sentence each."""
    places, sentences = Places(tuple(contents.paths)), []
    for i in range(min(len(contents.lanes), TOLD)):
        if found := first_not_finite(contents.run, contents.lanes[i]["lane"]):
            seed = f"Seed {contents.lanes[i]['seed']}: " if len(contents.lanes) > 1 else ""
            sentences.append(f"{seed}{found.sentence(places)}")
    return sentences


def thinning(contents: Contents) -> str:
    """Returns what was drawn together to keep the page small and quick, in a sentence; nothing if nothing was."""
    parts = []
    for axis in contents.axes:
        if axis.by_step.thin:
            parts.append(f"{len(axis.steps):,} recorded steps in {len(axis.by_step.starts)} groups")
        if axis.by_layer.thin:
            parts.append(f"{axis.layers:,} layers in {len(axis.by_layer.starts)} groups")
    first, last = contents.course_steps
    if (first != last).any():
        parts.append(f"the curves over {int(last[-1]):,} steps at {len(first)} points")
    if not parts:
        return ""
    kept = "each keeps its mean, lowest and highest; the first and last steps and layers stand alone"
    return (
        f"Thinned to be drawn: {', '.join(dict.fromkeys(parts))}; {kept}. Every number is in the run's Parquet files."
    )


def _facts(meta: Mapping[str, Any], lanes: int, layers: int) -> dict[str, Any]:
    """The machine and the time."""
    facts = {
        "status": meta["status"],
        "steps": f"{meta['step']:,}",
        "started": meta.get("started"),
        "ended": meta.get("ended"),
        "seconds": f"{meta['seconds']:.1f}",
        "of it compiling": f"{meta['compile_seconds']:.1f} s" if meta.get("compile_seconds") is not None else None,
        "steps per second": f"{meta['steps_per_second']:,.1f}" if meta.get("steps_per_second") else None,
        "devices": ", ".join(meta.get("devices", [])),
        "host": ", ".join(f"{key} {value}" for key, value in meta.get("host", {}).items()),
        "precision": f"{meta['precision']}, matrix products {meta.get('matmul_precision')}"
        if "precision" in meta
        else None,
        "versions": ", ".join(f"{key} {value}" for key, value in meta.get("versions", {}).items()),
        "git commit": meta.get("git_commit"),
        "programs": meta.get("programs"),
        "layers watched": meta.get("watched") and f"{layers:,}",
        "lanes": f"{lanes:,}" if not meta.get("watched") else None,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}
