"""The sink that keeps a session's events: in the trace first, then the state, then for observers.

Opening the journal is holding the conversation in its store, taking in what others wrote since,
and closing what a process that died left open. Knows no model and no tool.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock._logs import get_logger
from paddock.errors import SessionLocked
from paddock.runtime.conversation.records import records
from paddock.runtime.conversation.state import stamped
from paddock.runtime.core.calls import parse_arguments
from paddock.runtime.core.claims import renewing
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import MessageAdded, RunFinished, ToolFinished, TraceRepaired
from paddock.runtime.core.model import Usage, tool_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from paddock.runtime.conversation.records import Record
    from paddock.runtime.conversation.state import State
    from paddock.runtime.conversation.store import ConversationLog, ConversationStore
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
    """The events of one session, kept in `store` under the id `key`.

    Without a store only its state remembers them. What is kept `of_a_run` alone is continued by
    sessions of other ids, and removed when the run was completed.
    """

    def __init__(
        self,
        state: State,
        store: ConversationStore | None = None,
        key: str = "",
        *,
        of_a_run: bool = False,
    ) -> None:
        self.state = state
        self.store = store
        self.key = key
        self._of_a_run = of_a_run
        self._log: ConversationLog | None = None
        self.found_dead = False
        """Whether the process of the run before has died."""
        self.starts_anew = False
        """Whether what the store has under this id is to be removed first."""
        self.keeps_open = False
        """Whether calls that can still be made, or entered again, wait for a later run."""

    @property
    def identity(self) -> str:
        """The id of this conversation, wherever it is moved and whichever process continues it."""
        return self.key if self._of_a_run else self.state.session_id or self.key

    async def catch_up(self) -> None:
        """Bring the state near the trace's end, piece by piece, without holding up the loop.

        Cancelled, the state is at the end of a piece. Raises `TraceError`.
        """
        if self.store is None:
            return
        pieces = self.store.pieces(self.key, start=self.state.trace_end)
        if pieces is None:
            return
        while (content := await asyncio.to_thread(next, pieces, None)) is not None:
            self._replay(content.records)
            self.state.trace_end = content.end

    def _replay(self, found: Sequence[Record]) -> None:
        own = self.state.session_id
        self.state.replay(found)
        if self._of_a_run:
            self.state.session_id = own

    @contextlib.contextmanager
    def writing(self, out: Emitter) -> Iterator[None]:
        """Hold the session while the block runs; no other process can write it. Blocks.

        The state is brought up to the trace's end first; what a process that died left open is
        closed by events that `out` has kept. Raises `SessionLocked` if another process, or
        another session object, holds it.
        """
        if self.store is None:
            with self._writing(None, out):
                yield
            return
        log = self.store.open(self.key, start=self.state.trace_end)
        try:
            with self._writing(log, out):
                yield
        finally:
            log.close()

    @contextlib.asynccontextmanager
    async def holding(self, out: Emitter, lost: Callable[[str], object]) -> AsyncIterator[None]:
        """`writing`, without holding up the event loop.

        `lost` is called with the reason when another writer takes the session meanwhile.
        """
        if self.store is None:
            with self._writing(None, out):
                yield
            return
        log = await acquire(asyncio.to_thread(self._open, self.store), _closed)
        completed = False
        try:
            if self._begins(log):  # a long history takes a while to write
                await asyncio.to_thread(self._write_snapshot, log)
            with self._writing(log, out):
                async with _renewing(log, lost):
                    yield
                completed = self._of_a_run and self.state.status == "completed"
        finally:
            await finish(_closed(log, delete=completed))

    def _open(self, store: ConversationStore) -> ConversationLog:
        log = store.open(self.key, start=self.state.trace_end)
        if self.starts_anew:
            self.starts_anew = False
            if log.end:
                log.close(delete=True)
                log = store.open(self.key)
        return log

    @contextlib.contextmanager
    def _writing(self, log: ConversationLog | None, out: Emitter) -> Iterator[None]:
        self._log = log
        try:
            if log is not None:
                self._take_in(log)
            out.session_id = self.state.session_id or out.session_id  # the log may have told it
            for event in self._repairs(None if log is None else log.torn):
                out.keep(event)
            yield
        finally:
            self._log = None

    def keep(self, envelope: Envelope) -> None:
        """Keep it. When this returns, the event survives the end of the process.

        An event of an agent that works for this one is in that one's own journal. Raises
        `TraceWriteError`, and then the state does not know of the event either.
        """
        if envelope.session_id != self.state.session_id:
            return
        for plain in records(envelope.event):
            record = stamped(plain, envelope.at)
            if self._log is not None:
                self._log.append(record)
                self.state.trace_end = self._log.end
            self.state.apply(record)
            self.state.notify(record)

    def closing_events(self, *, started: str, waiting: str) -> list[Event]:
        """Return events that give each open call a result: `started` to those that may have run,
        `waiting` to the others. They are the caller's to keep."""
        return [
            _failed(call, started)
            if call.started
            else MessageAdded(message=tool_message(call.id, waiting))
            for call in self.state.open_calls
        ]

    def lost(self, *, started: str) -> list[Event]:
        """Return events that give a result to those open calls that cannot be resumed."""
        calls = self.state.open_calls
        return [_failed(call, started) for call in calls if call.started and not call.resumable]

    async def sync(self) -> None:
        """Return when everything kept would survive the end of the machine."""
        if self._log is not None:
            await self._log.sync()

    def _take_in(self, log: ConversationLog) -> None:
        self._replay(log.found)
        if self._begins(log):
            self._write_snapshot(log)
        self.state.trace_end = log.end
        if log.torn is not None:
            _log.warning("the trace of %s ended in %d torn bytes", self.key, log.torn.size)

    def _begins(self, log: ConversationLog) -> bool:
        """Whether `log` is new and has to say first what the state holds."""
        begun = self.state.messages or self.state.system_prompt is not None
        return log.end == 0 and bool(begun)

    def _write_snapshot(self, log: ConversationLog) -> None:
        for record in self.state.snapshot():
            log.append(stamped(record))

    def _repairs(self, torn: TornTail | None) -> Iterator[Event]:
        """Events that close what a process that died left open."""
        state = self.state
        if torn is not None:
            yield TraceRepaired(torn_bytes=torn.size, quarantine=torn.quarantine.name)
        self.found_dead = state.status == "running"
        if not self._is_waiting:
            yield from self.closing_events(started=UNKNOWN, waiting=NEVER_RAN)
        elif self.found_dead:
            yield from self.lost(started=UNKNOWN)
        if self.found_dead:
            yield RunFinished(
                run_id=state.runs_started,
                status="interrupted",
                run=Usage(),
                total=state.total,
                run_count=state.run_count,
            )

    @property
    def _is_waiting(self) -> bool:
        """Whether the turn of the open calls can still be continued.

        It can if they wait for approvals, or were decided and have not begun, since nothing of a
        turn runs before all its approvals are there; and if one can be entered again.
        """
        calls = self.state.open_calls
        if self.keeps_open or self.state.pending_approvals:
            return True
        return any(call.resumable if call.started else call.decision for call in calls)


def _failed(call: OpenCall, content: str) -> ToolFinished:
    return ToolFinished(
        call_id=call.id,
        tool_name=call.name,
        content=content,
        success=False,
        duration=0.0,
        metadata={"arguments": parse_arguments(call.arguments)[0]},
    )


def _renewing(
    log: ConversationLog, lost: Callable[[str], object]
) -> AbstractAsyncContextManager[None]:
    """Renew the hold on `log` while the block runs."""
    if log.renewal is None:
        return contextlib.nullcontext()

    async def renew() -> bool:
        try:
            await log.sync()
        except SessionLocked as error:
            lost(str(error))
            return False
        return True

    return renewing(renew, name="hold on a conversation", seconds=log.renewal)


async def _closed(log: ConversationLog, *, delete: bool = False) -> None:
    await asyncio.to_thread(log.close, delete=delete)
