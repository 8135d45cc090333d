"""Conversations that many workers share: written once over transactions, which a store makes.

Who writes a conversation claims it for a while, and renews the claim while it works. When that
worker dies, another one claims the conversation and continues it.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeVar

from paddock._concurrency import finish
from paddock.errors import RunClaimed, SessionError, TraceWriteError
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.store import (
    ConversationLog,
    ConversationsBelow,
    range_below,
)
from paddock.runtime.conversation.trace import encode_record, read_records
from paddock.runtime.core.claims import CLAIM, Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.records import Record
    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.conversation.trace import TraceContent

__all__ = ["ClaimedConversationStore", "ConversationRows", "load", "store"]

T = TypeVar("T")


class ConversationRows(Protocol):
    """What a transaction sees. Blocks."""

    def claim(self, conversation_id: str) -> Claim | None:
        """Return the process that has claimed a conversation."""
        ...

    def set_claim(self, conversation_id: str, claim: Claim | None) -> None:
        """Replace the claim, or remove it."""
        ...

    def count(self, conversation_id: str) -> int:
        """Return the number of a conversation's records."""
        ...

    def lines(self, conversation_id: str, start: int) -> Iterable[bytes]:
        """Return the records from number `start` on."""
        ...

    def add(self, conversation_id: str, number: int, lines: Sequence[bytes]) -> None:
        """Add records, of which the first has this number."""
        ...

    def delete(self, conversation_id: str) -> None:
        """Remove all records, and those of the conversations below; see `range_below`."""
        ...


class ClaimedConversationStore(ABC):
    """A `ConversationStore` over transactions that exclude each other.

    Positions are numbers of records. A conversation that another worker has claimed raises
    `RunClaimed`. All methods raise `SessionError` if the store cannot be read or written.
    """

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """See `ConversationStore`."""

    @abstractmethod
    def transact(self, work: Callable[[ConversationRows], T], *, writing: bool = True) -> T:
        """Do `work` in one transaction. Blocks."""

    def open(self, conversation_id: str, *, start: int = 0) -> ConversationLog:
        """See `ConversationStore.open`."""
        log = _ClaimedLog(self, conversation_id)
        self.transact(lambda rows: log.begin(rows, start))
        return log

    def pieces(self, conversation_id: str, *, start: int = 0) -> Iterator[TraceContent] | None:
        """See `ConversationStore.pieces`: `open` is called in a thread, and reads all."""
        return None

    def read(self, conversation_id: str) -> State | None:
        """See `ConversationStore.read`."""
        return self.transact(lambda rows: load(rows, conversation_id), writing=False)

    def below(self, conversation_id: str) -> ConversationStore:
        """See `ConversationStore.below`."""
        return ConversationsBelow(self, range_below(conversation_id)[0])

    def on_close(self, rows: ConversationRows, conversation_id: str) -> None:  # noqa: B027 - a hook
        """Note, in the same transaction, that a writer let go of a conversation."""


class _ClaimedLog(ConversationLog):
    """Records wait in memory until `sync`, which adds them in one transaction."""

    renewal = CLAIM

    def __init__(self, store: ClaimedConversationStore, conversation_id: str) -> None:
        self._store = store
        self._id = conversation_id
        self._claim = Claim.take()
        self._end = 0
        self._kept = 0
        self._waiting: list[bytes] = []
        self._writing = threading.Lock()
        self._closed = False

    def begin(self, rows: ConversationRows, start: int) -> None:
        known = rows.claim(self._id)
        if known is not None and known.holds:
            raise RunClaimed(self._id, seconds=known.left)
        self._kept = self._end = rows.count(self._id)
        self.found = _read(rows, self._id, start if self._kept else 0)
        rows.set_claim(self._id, self._claim)

    @property
    def end(self) -> int:
        return self._end

    def append(self, record: Record) -> None:
        self._waiting.append(encode_record(record))
        self._end += 1

    async def sync(self) -> None:
        await finish(asyncio.to_thread(self._write))

    def close(self, *, delete: bool = False) -> None:
        if self._closed:
            return
        self._closed = True

        def release(rows: ConversationRows) -> None:
            self._add(rows)
            rows.set_claim(self._id, None)
            if delete:
                rows.delete(self._id)
            self._store.on_close(rows, self._id)

        with self._writing:
            self._store.transact(release)

    def _write(self) -> None:
        with self._writing:
            try:
                added = self._store.transact(self._add)
            except RunClaimed:
                raise
            except SessionError as error:
                raise TraceWriteError(str(error)) from error
            # Only now: the transaction is committed. The loop's thread may have appended more.
            del self._waiting[:added]
            self._kept += added

    def _add(self, rows: ConversationRows) -> int:
        """Return how many of the waiting records were added.

        An expired claim stays valid until another process claims the run.
        """
        known = rows.claim(self._id)
        if known is None:
            raise SessionError(
                f"the conversation {self._id} is no longer in its store: it, or the store, was "
                "deleted while this run used it"
            )
        if known.token != self._claim.token:
            raise RunClaimed(self._id, seconds=0.0)
        rows.set_claim(self._id, known.renewed())
        lines = tuple(self._waiting)
        rows.add(self._id, self._kept, lines)
        return len(lines)


def load(rows: ConversationRows, conversation_id: str) -> State | None:
    """Return a conversation; None if there is none."""
    records = _read(rows, conversation_id)
    if not records:
        return None
    state = State()
    state.replay(records)
    state.trace_end = len(records)
    return state


def store(rows: ConversationRows, conversation_id: str, records: Iterable[Record]) -> None:
    """Replace a conversation by `records`."""
    rows.delete(conversation_id)
    rows.add(conversation_id, 0, [encode_record(record) for record in records])


def _read(rows: ConversationRows, conversation_id: str, start: int = 0) -> list[Record]:
    return read_records(b"".join(rows.lines(conversation_id, start))).records
