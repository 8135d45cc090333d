"""The sink that keeps a session's events: in the trace first, then the state, then for observers.

Opening the journal is taking the session's lock, taking in what others wrote since,
and closing what a process that died left open. Knows no model and no tool.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from paddock._logs import get_logger
from paddock.errors import SessionLocked, TraceWriteError
from paddock.runtime.conversation.directory import TRACE
from paddock.runtime.conversation.records import records
from paddock.runtime.conversation.state import stamped
from paddock.runtime.conversation.trace import PIECE, TraceWriter, read_piece
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import MessageAdded, RunFinished, ToolFinished, TraceRepaired
from paddock.runtime.core.model import Usage, tool_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.conversation.records import Record
    from paddock.runtime.conversation.state import State
    from paddock.runtime.conversation.trace import TornTail
    from paddock.runtime.core.calls import OpenCall
    from paddock.runtime.core.emitter import Emitter, Envelope
    from paddock.runtime.core.events import Event

__all__ = ["Journal"]

UNKNOWN = (
    "Unknown: the process died while this call ran. It may have had its effect, wholly or in part."
)
NEVER_RAN = "Not run: the process died before this call began."

_log = get_logger(__name__)


class Journal(EventSink):
    """The events of one session. Without a `directory` only its state remembers them."""

    def __init__(self, state: State, directory: SessionDirectory | None = None) -> None:
        self.state = state
        self._directory = directory
        self._writer: TraceWriter | None = None

    async def catch_up(self) -> None:
        """Bring the state near the trace's end, piece by piece, without holding up the loop.

        Cancelled, the state is at the end of a piece. Raises `TraceError`.
        """
        if self._directory is None:
            return
        # What cannot be read is told by `writing`, and so is a trace that became shorter.
        with (
            contextlib.suppress(OSError),
            self._directory.files.open_reader(TRACE) as trace,
        ):
            while os.fstat(trace.fileno()).st_size - self.state.trace_end > PIECE:
                content = await asyncio.to_thread(read_piece, trace, self.state.trace_end)
                if not content.records:
                    return
                self.state.replay(content.records)
                self.state.trace_end = content.end

    @contextlib.contextmanager
    def writing(self, out: Emitter) -> Iterator[None]:
        """Hold the session while the block runs; nobody else can write it.

        The state is brought up to the trace's end first; what a process that died left open is
        closed by events that `out` has kept. Raises `SessionLocked` if another process, or
        another session object, holds it.
        """
        torn = None if self._directory is None else self._open(self._directory)
        out.session_id = self.state.session_id or out.session_id  # the trace may have told it
        try:
            for event in self._repairs(torn):
                out.keep(event)
            yield
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def keep(self, envelope: Envelope) -> None:
        """Keep it. When this returns, the event survives the end of the process.

        An event of an agent that works for this one is in that one's own journal. Raises
        `TraceWriteError`, and then the state does not know of the event either.
        """
        if envelope.session_id != self.state.session_id:
            return
        for plain in records(envelope.event):
            record = stamped(plain, envelope.at)
            if self._writer is not None:
                self._writer.append(record)
                self.state.trace_end = self._writer.end
            self.state.apply(record)
            self.state.notify(record)

    def settled(self, *, started: str, waiting: str | None) -> list[Event]:
        """Events that give each open call a result: `started` to those that may have run, else
        `waiting`, or none if that is None. They are the caller's to keep."""
        events: list[Event] = []
        for call in self.state.open_calls:
            if call.started:
                events.append(_failed(call, started))
            elif waiting is not None:
                events.append(MessageAdded(message=tool_message(call.id, waiting)))
        return events

    async def sync(self) -> None:
        """Return when everything kept would survive the end of the machine."""
        if self._writer is not None:
            await self._writer.sync()

    def _open(self, directory: SessionDirectory) -> TornTail | None:
        try:
            directory.make()
            writer, found, torn = TraceWriter.open(directory.trace, start=self.state.trace_end)
        except BlockingIOError as error:
            name = self.state.session_id or directory.path.name
            raise _locked(name, directory) from error
        except OSError as error:
            place = error.filename or directory.trace
            raise TraceWriteError(f"cannot open {place}: {error.strerror}") from error
        self._writer = writer
        try:
            self._take_in(found)
        except BaseException:
            writer.close()
            self._writer = None
            raise
        if torn is not None:
            _log.warning("%s ended in %d torn bytes", directory.trace, torn.size)
        return torn

    def _take_in(self, found: list[Record]) -> None:
        assert self._writer is not None  # `_open` has just set it
        self.state.replay(found)
        if self._writer.end == 0 and self.state.messages:
            for record in self.state.snapshot():  # a new trace has to tell where it begins
                self._writer.append(stamped(record))
        self.state.trace_end = self._writer.end

    def _repairs(self, torn: TornTail | None) -> Iterator[Event]:
        """Events that close what a process that died left open."""
        state = self.state
        if torn is not None:
            yield TraceRepaired(torn_bytes=torn.size, quarantine=torn.quarantine.name)
        if state.status == "running":
            waiting = None if self._resumable else NEVER_RAN
            yield from self.settled(started=UNKNOWN, waiting=waiting)
            yield RunFinished(
                run_id=state.runs_started,
                status="interrupted",
                run=Usage(),
                total=state.total,
                run_count=state.run_count,
            )
        elif not self._resumable:
            # Its process died while it gave results to what nobody had approved.
            yield from self.settled(started=UNKNOWN, waiting=NEVER_RAN)

    @property
    def _resumable(self) -> bool:
        """Whether open calls wait for approvals, or were decided and have not begun. Nothing of
        a turn runs before all its approvals are there, so the turn can still be gone on with."""
        decided = (call for call in self.state.open_calls if call.decision and not call.started)
        return bool(self.state.pending_approvals) or any(decided)


def _failed(call: OpenCall, content: str) -> ToolFinished:
    return ToolFinished(
        call_id=call.id, tool_name=call.name, content=content, success=False, duration=0.0
    )


def _locked(name: str, directory: SessionDirectory) -> SessionLocked:
    writer = directory.holder()
    if writer is None:
        return SessionLocked(name)
    return SessionLocked(name, pid=writer.pid, host=writer.host, since=writer.since)
