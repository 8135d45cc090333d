"""How far a batch is, on a terminal as a bar and elsewhere as a line now and then."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from paddock.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from paddock.runtime.fleet.fleet import FleetProgress
    from paddock.runtime.fleet.results import TaskResult

__all__ = ["BatchDisplay", "Pace"]

WINDOW = 60.0
"""Seconds over which the rate is an average: what is past says little about the end."""

QUIET, QUIETEST = 10.0, 60.0
"""Seconds between two lines where there is no terminal, at first and after twenty minutes. Services
that run tests end what is silent for minutes, and keep all lines."""

FAILURES = 20
"""Lines about failed tasks between two lines about the batch; others are counted."""

LINE = 200
"""Characters of a line about one task."""


class Pace:
    """How many tasks end in a second, and how long the rest will take."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Tasks in a second; 0 if that is not known yet."""
        if len(self._seen) < 2:
            return 0.0
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def told(self, left: int) -> list[str]:
        """Return the rate and the time that `left` tasks will take, for a person."""
        rate = self.rate
        if not rate:
            return []
        per = f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"
        return [per, f"{_clock(left / rate)} left"] if left else [per]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class BatchDisplay:
    """Shows a batch on `console` while the block runs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._pace = Pace()
        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console
        )
        self._task = self._bar.add_task("", total=None)
        self._held_back = Text()
        self._live = Live(
            Group(self._bar, self._held_back), console=console, refresh_per_second=4, transient=True
        )
        self._noted = self._failed = 0
        self._began = self._told = clock()
        self._reason: str | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._tell_failures()
        self._live.stop()

    def ended(self, result: TaskResult[Any]) -> None:
        """Show a task that failed."""
        if result.error is None or result.earlier:
            return
        self._failed += 1
        if self._failed <= FAILURES:
            self._say(f"{result.key}: {result.error}")

    def noted(self, notes: Sequence[str]) -> None:
        """Show the notes of the batch that were not shown yet."""
        for note in notes[self._noted :]:
            self._say(f"paddock: {note}")
        self._noted = len(notes)

    def counted(self, progress: FleetProgress) -> None:
        """Show how far the batch is, and what holds it back."""
        counts, total = progress.counts, sum(progress.counts.values())
        left = counts.get("pending", 0) + counts.get("running", 0)
        self._pace.note(self._clock(), total - left)
        about = [f"{counts.get('running', 0)} running"]
        failed = total - left - counts.get("completed", 0)
        about += [f"{failed} failed"] if failed else []
        about += self._pace.told(left)
        about += [f"${progress.cost:,.2f}"] if progress.cost else []
        reason = _reason(progress)
        if self._console.is_terminal:
            description = ", ".join(about)
            self._bar.update(
                self._task, completed=total - left, total=total, description=description
            )
            self._held_back.plain = one_line(reason or "", max(20, self._console.width - 1))
            if self._is_time(reason):
                self._tell_failures()
        elif self._is_time(reason):
            self._tell_failures()
            about += [reason] if reason else []
            self._say(f"{total - left} of {total} done, {', '.join(about)}")

    def _is_time(self, reason: str | None) -> bool:
        """Return whether another line may come: after a while, or when a pause begins or ends."""
        now = self._clock()
        quiet = min(QUIETEST, max(QUIET, (now - self._began) / 20))
        changed = _is_pause(reason) != _is_pause(self._reason)
        if not changed and now - self._told < quiet:
            return False
        self._told, self._reason = now, reason
        return True

    def _tell_failures(self) -> None:
        more, self._failed = self._failed - FAILURES, 0
        if more > 0:
            self._say(f"and {more} more failed; see: paddock batch status")

    def _say(self, line: str) -> None:
        self._console.print(Text(one_line(line, LINE)), soft_wrap=True)


def _reason(progress: FleetProgress) -> str | None:
    if progress.paused is not None:
        return f"paused: {progress.paused}"
    return None if progress.throttled is None else f"throttled: {progress.throttled}"


def _is_pause(reason: str | None) -> bool:
    return reason is not None and reason.startswith("paused")
