"""One run of a session: the frame around the loop.

It begins the run, hears cancellation, shows events, and ends the run so that the
history is valid, whatever happened in between. Knows no files but the session's
directory, and no sandbox.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.errors import ModelError, PaddockError, TraceWriteError
from paddock.runtime.compaction import compact, too_long
from paddock.runtime.events import (
    Event,
    MessageAdded,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStatus,
)
from paddock.runtime.loop import Outlet
from paddock.runtime.models.base import Usage
from paddock.runtime.results import AgentEvent, RunResult, agent_event, run_usage
from paddock.runtime.text import clean_text

if TYPE_CHECKING:
    from paddock.runtime.cancellation import CancellationToken, CancelScope
    from paddock.runtime.directory import SessionDirectory
    from paddock.runtime.journal import Journal
    from paddock.runtime.loop import AgentLoop

__all__ = ["EventCallback", "Run", "RunOutlet"]

EventCallback = Callable[[AgentEvent], Awaitable[None] | None]
"""Shown each event of a run as it happens; a slow one slows the run."""

LoopFactory = Callable[
    [Outlet, Callable[[], None], Callable[[], Awaitable[None]]], Awaitable["AgentLoop"]
]
"""Makes a loop from its outlet, its check for cancellation, and what to await before turns."""

PAUSE_INTERVAL = 0.5
"""Seconds between two looks at the file that pauses a session."""

SHOW_PATIENCE = 5.0
"""Seconds that a callback may take with the last events of a run that ended early."""

STOPPED = "Cancelled while it ran. It may have had its effect, wholly or in part."
NOT_RUN = "Not run: the run ended before this call began."
NOT_APPROVED = "Not run: nobody had approved it when the next prompt came."

_log = logging.getLogger(__name__)


class RunOutlet:
    """Events go to the journal first, then, as the SDK shows them, to the callback."""

    def __init__(self, journal: Journal, on_event: EventCallback | None) -> None:
        self._journal = journal
        self._on_event = on_event
        self.events: list[AgentEvent] = []

    def record(self, event: Event) -> None:
        self._journal.record(event)

    async def show(self, event: Event) -> None:
        shown = agent_event(event)
        if shown is None:
            return
        self.events.append(shown)
        if self._on_event is not None:
            waiting = self._on_event(shown)
            if inspect.isawaitable(waiting):
                await waiting

    async def emit(self, event: Event) -> None:
        self._journal.record(event)
        await self.show(event)

    async def sync(self) -> None:
        await self._journal.sync()


@dataclass(kw_only=True)
class Run:
    """What one run works with. `make_loop` is awaited under `scope`, so it may be cancelled too."""

    journal: Journal
    outlet: RunOutlet
    token: CancellationToken
    scope: CancelScope
    make_loop: LoopFactory
    directory: SessionDirectory | None = None
    context_window: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False
    _loop: AgentLoop | None = None

    async def execute(self, prompt: str, max_turns: int | None) -> RunResult:
        """From the prompt to the result. The journal is open. See `Session.run`."""
        self._begin(prompt)
        status: RunStatus = "cancelled"
        last: Event | None = None
        try:
            async with self.scope:
                self._loop = await self.make_loop(self.outlet, self.scope.check, self.before_turn)
                status = await self._loop.run(max_turns=max_turns)
        except asyncio.CancelledError as cancelled:
            await self._close_cancelled(cancelled)
            raise
        except TraceWriteError as error:  # nothing more can be recorded
            await finish(self._show_last(RunFailed(message=str(error))))
            raise
        except ModelError as error:
            status, last = "error", RunFailed(message=_told(error))
        except BaseException as error:
            await finish(self._close("error", RunFailed(message=_told(error))))
            raise
        if self.scope.cancelled:
            last = self._cancelled()
        await finish(self._close(status, last))
        return self._result(status)

    async def before_turn(self) -> None:
        """What others want between two model calls: that it waits, hears something, shrinks."""
        if self.directory is not None:
            await self._wait_while_paused(self.directory)
            await self._take_directives(self.directory)
        if self._loop is not None and too_long(self.journal.state, self.context_window):
            await compact(self._loop, trigger="auto")

    def _begin(self, prompt: str) -> None:
        state = self.journal.state
        self.journal.settle(started=NOT_APPROVED, waiting=NOT_APPROVED)
        started = RunStarted(
            session_id=state.session_id or "", run_id=state.runs_started + 1, prompt=prompt
        )
        self.journal.record(started)
        message = {"role": "user", "content": prompt}
        self.journal.record(MessageAdded(message=message))

    async def _wait_while_paused(self, directory: SessionDirectory) -> None:
        while directory.paused():
            await asyncio.sleep(PAUSE_INTERVAL)
            self.scope.check()

    async def _take_directives(self, directory: SessionDirectory) -> None:
        with directory.directives() as texts:
            for text in texts:
                message = {"role": "user", "content": clean_text(text)}
                await self.outlet.emit(MessageAdded(message=message))

    def _cancelled(self) -> RunCancelled:
        phase = "before model call" if self._loop is None else self._loop.phase
        return RunCancelled(message=f"Cancelled {phase}", reason=self.scope.reason or "task")

    async def _close_cancelled(self, cancelled: asyncio.CancelledError) -> None:
        try:
            await finish(self._close("cancelled", self._cancelled()))
        except TraceWriteError as error:
            raise cancelled from error

    async def _close(self, status: RunStatus, last: Event | None) -> None:
        """Record the end at once, get it to the disk, then show it."""
        self.closing = True
        state = self.journal.state
        events: list[Event] = []
        if status != "interrupted":
            events += self.journal.settle(started=STOPPED, waiting=NOT_RUN)
        if last is not None:
            self.journal.record(last)
            events.append(last)
        self.journal.record(
            RunFinished(
                run_id=state.runs_started,
                status=status,
                run=self._usage,
                total=state.total,
                run_count=state.run_count,
            )
        )
        await self.journal.sync()
        await self._show_last(*events)

    async def _show_last(self, *events: Event) -> None:
        self.closing = True
        try:
            async with asyncio.timeout(SHOW_PATIENCE):
                for event in events:
                    await self.outlet.show(event)
        except TimeoutError:
            _log.warning("the event callback took too long; the last events were not shown")

    @property
    def _usage(self) -> Usage:
        return Usage() if self._loop is None else self._loop.usage

    def _result(self, status: RunStatus) -> RunResult:
        state = self.journal.state
        return RunResult(
            text="" if self._loop is None else self._loop.text,
            events=self.outlet.events,
            status=status,
            usage=run_usage(self._usage, state.total, state.estimate_tokens()),
        )


def _told(error: BaseException) -> str:
    """What the run's user is told about `error`."""
    return str(error) if isinstance(error, PaddockError) else f"{type(error).__name__}: {error}"
