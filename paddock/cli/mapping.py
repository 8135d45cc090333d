"""Running a batch: what is shown while it runs, and what is written and said at its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from paddock._concurrency import finish
from paddock.cli.batch_display import BatchDisplay
from paddock.cli.text import one_line
from paddock.runtime.fleet.exports import REPORT
from paddock.runtime.fleet.faults import BatchGaveUp
from paddock.runtime.fleet.reports import github_annotations, step_summary
from paddock.runtime.fleet.results import GAVE_UP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.fleet.fleet import BatchReport, Fleet
    from paddock.runtime.fleet.results import TaskResult

__all__ = ["show"]

LOOK = 0.5
"""Seconds between two looks at the counts of a batch."""

LEISURE = 20
"""Times as long as a look takes, the next one waits: counting very many tasks takes a while."""

LINE = 200
"""Characters of a line about one task."""


async def show(
    fleet: Fleet, results: AsyncIterator[TaskResult[Any]], *, out: Path, fail_under: float
) -> int:
    """Show the results as they come, and write the reports; return the exit code."""
    ending = _Ending(fleet, out, fail_under)
    async with fleet, contextlib.aclosing(results):  # type: ignore[type-var]
        with BatchDisplay(ending.console) as display:
            try:
                async with _watched(fleet, display):
                    async for result in results:
                        display.ended(result)
            except BatchGaveUp as error:
                ending.gave_up = str(error)
            except asyncio.CancelledError:
                if fleet.is_open:
                    await finish(ending.tell(), cancelled=True)
                raise
        return await ending.tell()


class _Ending:
    """Writes the reports of a batch in the directory `out`, and says how it ended."""

    def __init__(self, fleet: Fleet, out: Path, fail_under: float) -> None:
        self._fleet = fleet
        self._out = out
        self._fail_under = fail_under
        self.console = Console(stderr=True, highlight=False)
        self.gave_up: str | None = None

    async def tell(self) -> int:
        """Return the exit code."""
        if self.gave_up is not None and not self._fleet.is_open:  # it could not be opened
            self._say(self.gave_up)
            self._say(self._how_to_continue)
            return GAVE_UP
        try:
            report = await self._fleet.report(fail_under=self._fail_under, gave_up=self.gave_up)
        except BatchGaveUp as error:  # the ledger has what is finished
            self._say(self.gave_up)
            self._say(f"the reports are missing: {error.reason}")
            self._say(self._how_to_continue)
            return GAVE_UP
        self._tell_report(report)
        self._say(self._how_to_continue if report.unfinished else None)
        self._say(f"report: {self._out / REPORT}")
        return report.exit_code

    @property
    def _how_to_continue(self) -> str:
        return f"continue with: paddock map --resume {shlex.quote(str(self._out))}"

    def _tell_report(self, report: BatchReport) -> None:
        """Say how it ended, also to GitHub Actions."""
        counts = ", ".join(f"{n} {name}" for name, n in sorted(report.counts.items()))
        self.console.print(Text(counts or "no tasks"), soft_wrap=True)
        self._say(self.gave_up)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github_annotations(report.failed):
                print(line)
        if place := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                with Path(place).open("a", encoding="utf-8", errors="replace") as file:
                    file.write(step_summary(report.counts, report.failed, self.gave_up))
            except OSError as error:  # it decides nothing about the tasks
                self._say(f"cannot write the summary of the step: {error}")

    def _say(self, line: str | None) -> None:
        if line is not None:
            self.console.print(Text(f"paddock: {one_line(line, LINE)}"), soft_wrap=True)


@contextlib.asynccontextmanager
async def _watched(fleet: Fleet, display: BatchDisplay) -> AsyncIterator[None]:
    """Show how far the batch is while the block runs."""

    async def watch() -> None:
        while True:
            began = time.monotonic()
            if fleet.is_open:
                display.noted(fleet.notes)
                with contextlib.suppress(BatchGaveUp):  # which the batch raises, too
                    display.counted(await fleet.progress())
            await asyncio.sleep(max(LOOK, LEISURE * (time.monotonic() - began)))

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])
        display.noted(fleet.notes)  # of a batch that was done before the first look
