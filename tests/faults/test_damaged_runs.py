"""Whatever was done to a run directory, a command says so in a line or does its work on all of the rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from faults import samples
from faults.commands import SEED, Outcome, Warm, none, troubles
from faults.damage import Damage, damages_of
from faults.tables import difference, lost, rows_exported, status_of, the_run

pytestmark = pytest.mark.faults

EVERY = [(kind, damage) for kind in ("whole", "cut", "grid", "gridcut") for damage in damages_of(kind)]
DAMAGES = Random(SEED).sample(EVERY, 100)


class Bench:
    """A damaged run beside a whole one, and the commands that are tried on it."""

    def __init__(self, kind: str, damage: Damage, shared: Path, folder: Path, warm: Warm, random: Random):
        self.kind, self.damage, self.shared, self.warm = kind, damage, shared, warm
        self.folder, self.runs = folder, folder / "runs"
        for name in (kind, "other"):
            shutil.copytree(shared / name, self.runs, dirs_exist_ok=True)
        self.run = next(self.runs.glob(f"{kind}-*"))
        self.file = damage.do(self.run, random)
        self.found: list[str] = []
        self.tried: list[Outcome] = []

    def __call__(self, *argv: str | Path, codes: tuple[int, ...] = (0, 2, 4)) -> Outcome:
        """Runs a command, and notes its troubles."""
        outcome = self.warm(*argv, "--runs", self.runs, plain_user=True, cwd=self.folder)
        self.tried.append(outcome)
        self.found += troubles(outcome, *codes, about=self.run.name, lines=3)
        return outcome

    def wrong(self, outcome: Outcome, why: str) -> None:
        self.found.append(f"{why}:\n{outcome}")

    def expected(self, kind: str) -> Path:
        """The run that is as it should be."""
        return the_run(self.shared / kind)


@pytest.mark.parametrize(("kind", "damage"), DAMAGES, ids=[f"{kind}-{damage}" for kind, damage in DAMAGES])
def test_a_damaged_run_is_refused_in_a_line_or_read_whole(
    kind, damage: Damage, shared: Path, tmp_path: Path, warm: Warm, random: Random, tally: Callable
):
    bench = Bench(kind, damage, shared, tmp_path, warm, random)
    try:
        lists_the_others(bench)
        reads_all_rows_or_none(bench)
        looks_at_it(bench, random)
        goes_on_to_the_same_bits(bench)
    finally:
        for path in (bench.file, bench.run):
            if path.exists() and not path.is_symlink():
                path.chmod(0o700)
    counts = {f"exit_{code}": sum(one.code == code for one in bench.tried) for code in (0, 2, 4)}
    tracebacks = sum("Traceback" in one.err for one in bench.tried)
    tally("commands on damaged runs", all=len(bench.tried), **counts, tracebacks=tracebacks, failed=len(bench.found))
    none([f"{bench.file.relative_to(bench.run)} {damage.change.__name__}: {one}" for one in bench.found])


def lists_the_others(bench: Bench) -> None:
    """`vgx runs` has the neighbour in it, and the damaged run too as long as it is one."""
    listed = bench("runs", codes=(0,))
    if "other-" not in listed.out:
        bench.wrong(listed, "the other run is not listed")
    if (bench.run / "meta.json").exists() and bench.run.name not in listed.out:
        bench.wrong(listed, "the damaged run is not listed")


def reads_all_rows_or_none(bench: Bench) -> None:
    """An export has every row and every bit of the run as it was, or is refused; other commands tell what they lack."""
    output = bench.folder / "csv"
    exported = bench("export", bench.run, "--to", "csv", "--output", output)
    if exported.code == 0:
        whole = bench.folder / "expected"
        wanted = bench.warm("export", bench.expected(bench.kind), "--to", "csv", "--output", whole)
        assert wanted.code == 0, wanted
        wrong = difference(rows_exported(output), rows_exported(whole))
        if wrong and not exported.err:
            bench.wrong(exported, f"other rows, and no word of it: {wrong}")


def looks_at_it(bench: Bench, random: Random) -> None:
    """The commands that look: each refuses a run that lost rows, says what it lacks, or shows what it showed before."""
    name = bench.run.name
    looks: list[tuple[str | Path, ...]] = [
        ("show", name),
        ("show", name, "--statistic", "dead", "--layer", "2"),
        ("show", name, "--lane", "1"),
        ("compare", name, "other"),
        ("compare", name, "other", "--json"),
        ("export", name, "--to", "npz", "--output", bench.folder / "rows.npz"),
        ("export", name, "--to", "tensorboard", "--output", bench.folder / "events"),
    ]
    if not bench.kind.startswith("grid"):
        looks.append(("cure", bench.run))
    chosen = random.sample(looks, 2)
    if random.random() < 0.2:
        chosen.append(("report", name, "-o", bench.folder / "page.html"))
    for look in chosen:
        seen = bench(*look)
        if seen.code == 0 and bench.damage.loses_rows and look[0] in ("show", "compare") and not seen.err:
            before = bench.folder / "before"
            if not before.exists():
                for one in (bench.kind, "other"):
                    shutil.copytree(bench.shared / one, before, dirs_exist_ok=True)
            if bench.warm(*look, "--runs", before).out.replace(str(before), str(bench.runs)) != seen.out:
                bench.wrong(seen, "shows something else, and no word of what is missing")


def goes_on_to_the_same_bits(bench: Bench) -> None:
    """The command that made the run resumes it to all its rows, or says why it cannot."""
    settings = samples.grid(bench.kind) if bench.kind.startswith("grid") else samples.single(bench.kind)
    config = bench.folder / "config.yaml"
    config.write_text(samples.text(settings))
    again = ("sweep", config, "--quiet") if "sweep" in settings else ("train", config, "--resume", "--quiet")
    resumed = bench(*again)
    if resumed.code == 0:
        bench.file.chmod(0o700) if bench.file.exists() else None
        uncut = {"cut": "uncut", "gridcut": "griduncut"}.get(bench.kind, bench.kind)
        if status_of(bench.run) != "done":
            bench.wrong(resumed, f"exit 0, and the run is {status_of(bench.run)}")
        if wrong := lost(bench.run, bench.expected(uncut)):
            bench.wrong(resumed, f"exit 0, and other rows: {wrong}")
