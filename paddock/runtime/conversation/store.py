"""Where conversations are kept. Every store keeps the records of a trace, in their order, and so
gives the same `State` back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from paddock.errors import SessionLocked
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.trace import encode_record, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.records import Record
    from paddock.runtime.conversation.trace import TornTail, TraceContent

__all__ = [
    "ConversationLog",
    "ConversationStore",
    "ConversationsBelow",
    "MemoryConversationStore",
    "range_below",
]


class ConversationLog(ABC):
    """A conversation that one writer holds, until `close` or the end of its process.

    Of the records that were appended some first ones survive the end of the process, and all of
    them once `sync` has returned. `found` are the records that were kept before, from the
    position at which the log was opened, and `torn` is what a writer left unfinished.
    """

    found: Sequence[Record] = ()
    torn: TornTail | None = None
    renewal: float | None = None
    """Seconds within which `sync` has to be called again, where nothing else tells other writers
    that this one lives."""

    @property
    @abstractmethod
    def end(self) -> int:
        """The position behind the last record; another log may be opened from there."""

    @abstractmethod
    def append(self, record: Record) -> None:
        """Add a record, without waiting. Raises `TraceWriteError`."""

    @abstractmethod
    async def sync(self) -> None:
        """Return when all records are kept. Raises `TraceWriteError`, and `SessionLocked` if
        another writer took the conversation."""

    @abstractmethod
    def close(self, *, delete: bool = False) -> None:
        """Let go of the conversation, or remove it and those below it. Blocks; idempotent."""


class ConversationStore(Protocol):
    """Keeps conversations by their ids, for any number of tasks, threads and processes.

    The methods block, and bound their own waits. No sandbox may be able to write `path`, which is
    where the store is; None for one that is in no file.
    """

    @property
    def path(self) -> Path | None: ...

    def open(self, conversation_id: str, *, start: int = 0) -> ConversationLog:
        """Hold a conversation for writing, and read it from position `start`.

        A conversation that is not there begins now. Raises `SessionLocked` while another writer
        holds it, `TraceError` if it is damaged, and `TraceWriteError`.
        """
        ...

    def pieces(self, conversation_id: str, *, start: int = 0) -> Iterator[TraceContent] | None:
        """Return the records from `start` on in pieces, as far as they are too many for `open` to
        read at once; None if they are not. Holds nothing."""
        ...

    def read(self, conversation_id: str) -> State | None:
        """Return a conversation as it is now; None if there is none. Holds nothing."""
        ...

    def below(self, conversation_id: str) -> ConversationStore:
        """Return where the conversations are kept of agents that work for this one.

        They have ids of their own, and are removed with this one.
        """
        ...


@dataclass(frozen=True)
class ConversationsBelow:
    """The conversations of a store whose ids begin with `prefix`, by the rest of their ids."""

    store: ConversationStore
    prefix: str

    @property
    def path(self) -> Path | None:
        return self.store.path

    def open(self, conversation_id: str, *, start: int = 0) -> ConversationLog:
        """See `ConversationStore.open`."""
        return self.store.open(self.prefix + conversation_id, start=start)

    def pieces(self, conversation_id: str, *, start: int = 0) -> Iterator[TraceContent] | None:
        """See `ConversationStore.pieces`."""
        return self.store.pieces(self.prefix + conversation_id, start=start)

    def read(self, conversation_id: str) -> State | None:
        """See `ConversationStore.read`."""
        return self.store.read(self.prefix + conversation_id)

    def below(self, conversation_id: str) -> ConversationStore:
        """See `ConversationStore.below`."""
        return self.store.below(self.prefix + conversation_id)


def range_below(conversation_id: str) -> tuple[str, str]:
    """Return how the ids begin of the conversations below one, in a store that has only ids, and
    the first id after all of those."""
    return f"{conversation_id}/agents/", f"{conversation_id}/agents0"


class MemoryConversationStore:
    """Conversations in this process's memory."""

    path = None

    def __init__(self) -> None:
        self._kept: dict[str, list[bytes]] = {}
        self._held: set[str] = set()

    def open(self, conversation_id: str, *, start: int = 0) -> ConversationLog:
        """See `ConversationStore.open`."""
        if conversation_id in self._held:
            raise SessionLocked(conversation_id)
        return _MemoryLog(self._kept, self._held, conversation_id, start)

    def pieces(self, conversation_id: str, *, start: int = 0) -> Iterator[TraceContent] | None:
        """See `ConversationStore.pieces`."""
        return None

    def read(self, conversation_id: str) -> State | None:
        """See `ConversationStore.read`."""
        lines = self._kept.get(conversation_id)
        if lines is None:
            return None
        state = State.from_jsonl(b"".join(lines))
        state.trace_end = len(lines)
        return state

    def below(self, conversation_id: str) -> ConversationStore:
        """See `ConversationStore.below`."""
        return ConversationsBelow(self, range_below(conversation_id)[0])


class _MemoryLog(ConversationLog):
    def __init__(
        self, kept: dict[str, list[bytes]], held: set[str], conversation_id: str, start: int
    ) -> None:
        self._kept = kept
        self._held = held
        self._id = conversation_id
        self._lines = kept.setdefault(conversation_id, [])
        self.found = read_records(b"".join(self._lines[start:])).records
        held.add(conversation_id)

    @property
    def end(self) -> int:
        return len(self._lines)

    def append(self, record: Record) -> None:
        self._lines.append(encode_record(record))

    async def sync(self) -> None:
        """Nothing survives the process."""

    def close(self, *, delete: bool = False) -> None:
        if self._id not in self._held:
            return
        self._held.discard(self._id)
        if delete or not self._lines:
            del self._kept[self._id]
        if delete:
            first, end = range_below(self._id)
            for below in [each for each in self._kept if first <= each < end]:
                del self._kept[below]
