"""A session's directory: its files, its writer, and what others put there for it.

::

    config.yaml       the agent
    trace.jsonl       what happened; the truth, and the lock (flock)
    meta.json         what a list of sessions shows
    cancel, pause     ask the session to stop, to wait
    directives.jsonl  texts for the agent, one a line
    agents            the same for each agent that worked for it; only traces

Knows no agent and no run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._directory import PrivateDirectory, lock_file
from paddock._logs import get_logger
from paddock.runtime.conversation.trace import MAX_TRACE, PIECE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.runtime.conversation.state import State

__all__ = ["CONFIG", "TRACE", "SessionDirectory", "Writer", "noted"]

TRACE = "trace.jsonl"
CONFIG = "config.yaml"
_META = "meta.json"
_CANCEL = "cancel"
_PAUSE = "pause"
_DIRECTIVES = "directives.jsonl"

MAX_NOTE = 16 << 20
"""Bytes of a file beside the trace that are read: what people and agents write is smaller."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The process that writes a session, or did; `since` is in UTC, ISO 8601."""

    pid: int
    host: str
    since: str


class SessionDirectory:
    """The files below `path`; see `PrivateDirectory` for how they are opened.

    Reading never makes anything. Methods raise `OSError`: among them `PermissionError` where
    somebody else could have put something there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self.files: PrivateDirectory = PrivateDirectory(self.path)

    @property
    def trace(self) -> Path:
        """The path of the trace, to be shown; `files` opens it."""
        return self.path / TRACE

    def make(self) -> None:
        """Make the directory (mode 0700) and its parents if they are missing."""
        self.files.make()

    def read_config(self) -> bytes:
        """The agent's file."""
        return self.files.read(CONFIG, MAX_NOTE)

    def write_config(self, data: bytes) -> None:
        self.files.replace(CONFIG, data)

    def read_trace(self) -> bytes:
        """The whole trace; empty if there is none."""
        try:
            return self.files.read(TRACE, MAX_TRACE)
        except FileNotFoundError:
            return b""

    def read_meta(self) -> dict[str, Any]:
        """What was noted about the session; empty if nothing readable is there."""
        try:
            meta = json.loads(self.files.read(_META, MAX_NOTE))
        except (OSError, ValueError, RecursionError):
            return {}
        return meta if isinstance(meta, dict) else {}

    def update_meta(self, **fields: Any) -> None:
        """Set fields of the note; a reader sees the old note or the new one, whole."""
        meta = {**self.read_meta(), **fields}
        self.files.replace(_META, json.dumps(meta, indent=2).encode() + b"\n")

    def claim(self, session_id: str, prompt: str) -> None:
        """Note that this process runs `prompt` now. The lock is what counts."""
        self.clear_cancel()
        known = self.read_meta()
        if known.get("status") == "running":  # whose process died, and was paused perhaps
            self.clear_pause()
        self.note_writer()
        now = dt.datetime.now(dt.UTC).isoformat()
        self.update_meta(
            id=session_id,
            status="running",
            created_at=known.get("created_at") or now,
            first_prompt=known.get("first_prompt") or prompt,
        )

    def note_writer(self) -> None:
        """Note that this process writes the session, for others that find it locked."""
        now = dt.datetime.now(dt.UTC).isoformat()
        self.update_meta(writer={"pid": os.getpid(), "host": socket.gethostname(), "since": now})

    def disclaim(self, status: str) -> None:
        """Note how the run ended. The trace has the truth; a note that cannot be written
        does not undo a run."""
        try:
            self.clear_cancel()
            self.clear_pause()
            self.update_meta(status=status)
        except OSError:
            _log.exception("the end of the run in %s could not be noted", self.path)

    def holder(self) -> Writer | None:
        """Who writes the session, if somebody does, as far as it was noted."""
        try:
            writer = self.read_meta()["writer"]
            return Writer(pid=writer["pid"], host=writer["host"], since=writer["since"])
        except (KeyError, TypeError):
            return None

    @property
    def has_long_trace(self) -> bool:
        """Whether the trace takes noticeably long to read."""
        try:
            with self.files.open_reader(TRACE) as trace:
                return os.fstat(trace.fileno()).st_size > PIECE
        except OSError:
            return False

    def locked(self) -> bool:
        """Whether a process writes the session at this moment; not if that cannot be seen."""
        return self.files.is_locked(TRACE)

    def cancel_requested(self) -> bool:
        return self.files.exists(_CANCEL)

    def request_cancel(self) -> None:
        """Stop a run, also one that is paused."""
        self.files.touch(_CANCEL)
        self.clear_pause()

    def clear_cancel(self) -> None:
        self.files.remove(_CANCEL)

    def paused(self) -> bool:
        return self.files.exists(_PAUSE)

    def request_pause(self) -> None:
        """Let a run wait before its next turn, until `clear_pause()` or its end."""
        self.files.touch(_PAUSE)

    def clear_pause(self) -> None:
        self.files.remove(_PAUSE)

    def add_directive(self, text: str) -> None:
        """Leave `text` for the agent, which reads it before its next turn.

        Raises `TimeoutError` if another process keeps the file locked; see `lock_file`.
        """
        fd = self.files.open(_DIRECTIVES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(fd, "ab") as file:
            lock_file(file.fileno(), self.path / _DIRECTIVES)
            file.write(json.dumps({"text": text}).encode() + b"\n")

    @contextlib.contextmanager
    def directives(self) -> Iterator[list[str]]:
        """The texts that wait for the agent; they are removed when the block ends well.

        Nothing is locked while the block runs: it may add some itself, which stay. Empty if
        another process is just adding one: it is there the next time. What was put there in
        another way than as a file of ours is not read; the log says so.
        """
        try:
            fd = self.files.open(_DIRECTIVES, os.O_RDWR)
        except FileNotFoundError:
            yield []
            return
        except OSError as error:
            _log.warning("steering messages in %s are not read: %s", self.path, error)
            yield []
            return
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield []
                return
            read = os.pread(fd, MAX_NOTE, 0)
            fcntl.flock(fd, fcntl.LOCK_UN)
            lines = read.decode(errors="replace").splitlines()
            yield [_directive(line) for line in lines if line.strip()]
            lock_file(fd, self.path / _DIRECTIVES)
            rest = os.pread(fd, MAX_NOTE, len(read))
            os.pwrite(fd, rest, 0)
            os.ftruncate(fd, len(rest))
        finally:
            os.close(fd)


def _directive(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return line
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return str(value["text"])
    return line


@contextlib.contextmanager
def noted(
    directory: SessionDirectory | None, state: State, *, prompt: str | None = None
) -> Iterator[None]:
    """Note in `directory` that this process writes the session while the block runs, and then how
    that ended. With a `prompt`, it runs that."""
    if directory is None:
        yield
        return
    if prompt is None:
        directory.clear_cancel()
        directory.note_writer()
    else:
        directory.claim(state.session_id or directory.path.name, prompt)
    try:
        yield
    finally:
        directory.disclaim("error" if state.status == "running" else state.status)
