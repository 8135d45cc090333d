"""Conversations in the directories of sessions: each is the trace of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.errors import SessionLocked, TraceWriteError
from paddock.runtime.conversation.directory import TRACE, SessionDirectory
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.store import ConversationLog
from paddock.runtime.conversation.trace import PIECE, TraceWriter, read_piece

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.conversation.trace import TraceContent

__all__ = ["DirectoryConversationStore", "session_locked"]

AGENTS = "agents"
"""The directory with the conversations of agents that work for the one of its parent."""


class DirectoryConversationStore:
    """The conversations below `base`, each in a directory that has its id for a name.

    Positions are bytes of the trace.
    """

    def __init__(self, base: str | os.PathLike[str]) -> None:
        self.path: Path = Path(base)

    def open(self, conversation_id: str, *, start: int = 0) -> ConversationLog:
        """See `ConversationStore.open`."""
        directory = SessionDirectory(self.path / conversation_id)
        try:
            directory.make()
            log, found, torn = _TraceLog.open(directory.trace, start=start)
        except BlockingIOError as error:
            raise session_locked(conversation_id, directory) from error
        except OSError as error:
            place = error.filename or directory.trace
            raise TraceWriteError(f"cannot open {place}: {error.strerror}") from error
        log.found, log.torn = found, torn
        return log

    def pieces(self, conversation_id: str, *, start: int = 0) -> Iterator[TraceContent] | None:
        """See `ConversationStore.pieces`."""
        directory = SessionDirectory(self.path / conversation_id)
        try:
            trace = directory.files.open_reader(TRACE)
        except OSError:  # `open` says what is wrong
            return None
        if os.fstat(trace.fileno()).st_size - start <= PIECE:
            trace.close()
            return None
        return _pieces(trace, start)

    def read(self, conversation_id: str) -> State | None:
        """See `ConversationStore.read`."""
        data = SessionDirectory(self.path / conversation_id).read_trace()
        return State.from_jsonl(data) if data else None

    def below(self, conversation_id: str) -> ConversationStore:
        """See `ConversationStore.below`."""
        return DirectoryConversationStore(self.path / conversation_id / AGENTS)


class _TraceLog(TraceWriter, ConversationLog):
    def close(self, *, delete: bool = False) -> None:
        if delete:
            shutil.rmtree(self._files.path / AGENTS, ignore_errors=True)
            self._files.remove(TRACE)
        super().close()


def _pieces(trace: BinaryIO, start: int) -> Iterator[TraceContent]:
    with trace:
        while os.fstat(trace.fileno()).st_size - start > PIECE:
            content = read_piece(trace, start)
            if not content.records:
                return
            yield content
            start = content.end


def session_locked(conversation_id: str, directory: SessionDirectory) -> SessionLocked:
    """Return the error that names the writer of the session in `directory`."""
    writer = directory.holder()
    if writer is None:
        return SessionLocked(conversation_id)
    return SessionLocked(conversation_id, pid=writer.pid, host=writer.host, since=writer.since)
