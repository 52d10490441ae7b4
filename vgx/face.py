"""A run as Python meets it: what reads its directory, and besides a verdict, a page, and how a notebook shows it."""

from __future__ import annotations

from pathlib import Path

from vgx import run_directory


class Run(run_directory.Run):
    """A run directory, to read. Every call looks at the disk, so a run may be watched while it is written.

    A notebook shows it as a small table with its gradient. Raises RunError when `path` is no run, and `Damaged` when a
    file of it is missing or not what vgx wrote.
    """

    @property
    def verdict(self) -> str | None:
        """The word for its lanes: `healthy` where all are; several in the order of the alphabet, `dead, healthy`, where
        they differ; None before any has ended. A lane without a verdict counts with its status, `failed` or `pending`.
        """
        from vgx.report.notebook import verdict_of

        return verdict_of(self)

    def report(self, output: str | Path | None = None) -> Path:
        """Writes the run as one HTML page that works offline, and its figures as files; returns the page's path.

        Args:
            output: the page's path; `report.html` in the run directory unless told. An older page is replaced.

        Raises RunError when something else than a page of vgx is there; EnvironmentFault when the disk refuses.
        """
        from vgx.report.document import write_report

        return write_report(self, None if output is None else Path(output))[0]

    def __repr__(self) -> str:
        from vgx.report.notebook import in_words

        return in_words(self)

    def _repr_html_(self) -> str:
        from vgx.report.notebook import as_html

        return as_html(self)
