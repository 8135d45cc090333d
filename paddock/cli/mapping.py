"""Showing a batch while it runs.

On a terminal there is a bar with the time that is left, elsewhere a line now and then. What tasks
say goes through `paddock.cli.text`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from paddock._concurrency import finish
from paddock.cli.text import one_line
from paddock.runtime.fleet.faults import BatchGaveUp
from paddock.runtime.fleet.reports import github_annotations, step_summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.fleet.fleet import BatchReport, Fleet, FleetProgress
    from paddock.runtime.fleet.results import TaskResult

__all__ = ["show"]

LOOK = 0.5
"""Seconds between two looks at the counts of a batch."""
PACE = 10.0
"""Seconds between two lines where there is no terminal. Services that run tests end what is silent
for minutes."""

LINE = 200
"""Characters of a line about one task."""


async def show(fleet: Fleet, results: AsyncIterator[TaskResult[Any]], *, fail_under: float) -> int:
    """Show the results as they come, and write the reports; return the exit code."""
    console = Console(stderr=True, highlight=False)
    gave_up: str | None = None
    async with fleet, contextlib.aclosing(results):  # type: ignore[type-var]
        with _Display(console) as display:
            try:
                async with _watched(fleet, display):
                    async for result in results:
                        display.ended(result)
            except BatchGaveUp as error:
                gave_up = str(error)
            except asyncio.CancelledError:
                if fleet.is_open:
                    await finish(fleet.report(fail_under=fail_under), cancelled=True)
                raise
        report = await fleet.report(fail_under=fail_under, gave_up=gave_up)
    _tell(report, gave_up, console)
    return report.exit_code


@contextlib.asynccontextmanager
async def _watched(fleet: Fleet, display: _Display) -> AsyncIterator[None]:
    """Show how far the batch is while the block runs."""

    async def watch() -> None:
        while True:
            if fleet.is_open:
                display.counted(await fleet.progress(), fleet.notes)
            await asyncio.sleep(LOOK)

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])


class _Display:
    """A bar on a terminal; lines about failures and, now and then, about the whole elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self._task = self._bar.add_task("tasks", total=None)
        self._noted = 0
        self._told, self._paused = time.monotonic(), False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def ended(self, result: TaskResult[Any]) -> None:
        if result.error is not None and not result.earlier:
            self._say(f"{result.key}: {result.error}")

    def counted(self, progress: FleetProgress, notes: Any) -> None:
        for note in notes[self._noted :]:
            self._say(f"paddock: {note}")
        self._noted = len(notes)
        counts = progress.counts
        left = counts.get("pending", 0) + counts.get("running", 0)
        total = sum(counts.values())
        failed = total - left - counts.get("completed", 0)
        about = f"{counts.get('running', 0)} running, {failed} failed"
        if progress.throttled is not None:
            about = f"{about}; throttled: {progress.throttled}"
        if progress.paused is not None:
            about = f"paused: {progress.paused}"
        self._bar.update(
            self._task, completed=total - left, total=total, description=one_line(about, 60)
        )
        self._tell(f"{total - left} of {total} done, {about}", progress.paused is not None)

    def _tell(self, line: str, paused: bool) -> None:
        """Say it where there is no bar, if something has changed or it is time again."""
        now = time.monotonic()
        if self._console.is_terminal or (paused == self._paused and now - self._told < PACE):
            return
        self._told, self._paused = now, paused
        self._say(line)

    def _say(self, line: str) -> None:
        self._console.print(Text(one_line(line, LINE)), soft_wrap=True)


def _tell(report: BatchReport, gave_up: str | None, console: Console) -> None:
    """Say how it ended, also to GitHub Actions."""
    counts = ", ".join(f"{n} {name}" for name, n in sorted(report.counts.items()))
    console.print(Text(counts or "no tasks"), soft_wrap=True)
    if gave_up is not None:
        console.print(Text(f"paddock: {one_line(gave_up, LINE)}"), soft_wrap=True)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(report.entries):
            print(line)
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(place).open("a", encoding="utf-8", errors="replace") as file:
            file.write(step_summary(report.counts, report.entries, gave_up))
