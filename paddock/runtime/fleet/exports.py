"""The files that others read of a batch, written from its ledger. Blocks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.runtime.fleet.page.building import report_page
from paddock.runtime.fleet.reports import junit, summary
from paddock.runtime.fleet.results import GAVE_UP, exit_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.fleet.ledger import Entry, Ledger
    from paddock.runtime.fleet.run_directory import RunDirectory

__all__ = ["REPORT", "BatchReport", "write_exports"]

REPORT = "report.html"

MOST_FAILED = 50
"""Failed tasks that a summary names; all of them are in the files."""

_OPEN = ("pending", "running")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """How a batch ended: the exit code that CI reads, counts as in `FleetProgress`, and the first
    fifty tasks that `failed`."""

    exit_code: int
    counts: Mapping[str, int]
    failed: Sequence[Entry]

    @property
    def unfinished(self) -> int:
        """Count the tasks for which the batch is to be resumed."""
        return sum(self.counts.get(each, 0) for each in _OPEN)


def write_exports(
    ledger: Ledger, directory: RunDirectory, *, fail_under: float, gave_up: str | None
) -> BatchReport:
    """Write summary.json, junit.xml and report.html, and return how the batch stands."""
    counts = ledger.counts()
    code = GAVE_UP if gave_up is not None else exit_code(counts, fail_under=fail_under)
    is_over = gave_up is not None or not any(counts.get(each) for each in _OPEN)
    ended = code if is_over else None
    directory.write("summary.json", summary(counts, ended, gave_up))
    unfinished = (key for key, state, _ in ledger.states() if state in _OPEN)
    directory.write("junit.xml", junit(directory.path.name, counts, ledger.finished(), unfinished))
    directory.write(REPORT, report_page(ledger, directory, code=ended, gave_up=gave_up))
    failed = (entry for entry in ledger.finished() if entry.attempt.fault is not None)
    return BatchReport(
        exit_code=code, counts=counts, failed=list(itertools.islice(failed, MOST_FAILED))
    )
