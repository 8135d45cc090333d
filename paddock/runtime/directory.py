"""A session's directory: its files, who writes it, and what others put there for it.

::

    config.yaml       the agent
    trace.jsonl       what happened; the truth, and the lock (flock)
    meta.json         what a list of sessions shows
    cancel, pause     ask the session to stop, to wait
    directives.jsonl  texts for the agent, one a line

Knows no agent and no run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SessionDirectory", "Writer"]

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """The process that writes a session, or did; `since` is in UTC, ISO 8601."""

    pid: int
    host: str
    since: str


class SessionDirectory:
    """The files below `path`. Reading never makes anything."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.trace = self.path / "trace.jsonl"
        self._meta = self.path / "meta.json"
        self._cancel = self.path / "cancel"
        self._pause = self.path / "pause"
        self._directives = self.path / "directives.jsonl"

    def make(self) -> None:
        """Make the directory (mode 0700) and its parents if they are missing."""
        self.path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)

    def read_meta(self) -> dict[str, Any]:
        """What was noted about the session; empty if nothing readable is there."""
        try:
            meta = json.loads(self._meta.read_bytes())
        except (OSError, ValueError):
            return {}
        return meta if isinstance(meta, dict) else {}

    def update_meta(self, **fields: Any) -> None:
        """Set fields of the note; a reader sees the old note or the new one, whole."""
        meta = {**self.read_meta(), **fields}
        self.write_file(self._meta, json.dumps(meta, indent=2).encode() + b"\n")

    def write_file(self, path: Path, data: bytes) -> None:
        """Put `data` in place of the file `path` of this directory, atomically."""
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

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
        """Note that this process writes the session, for those who find it locked."""
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

    def locked(self) -> bool:
        """Whether somebody writes the session at this moment."""
        try:
            fd = os.open(self.trace, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def cancel_requested(self) -> bool:
        return self._cancel.exists()

    def request_cancel(self) -> None:
        """Let a run stop; a pause is over then."""
        self._cancel.touch(mode=_FILE_MODE)
        self.clear_pause()

    def clear_cancel(self) -> None:
        self._cancel.unlink(missing_ok=True)

    def paused(self) -> bool:
        return self._pause.exists()

    def request_pause(self) -> None:
        """Let a run wait before its next turn, until `clear_pause()` or its end."""
        self._pause.touch(mode=_FILE_MODE)

    def clear_pause(self) -> None:
        self._pause.unlink(missing_ok=True)

    def add_directive(self, text: str) -> None:
        """Leave `text` for the agent, which hears it before its next turn.

        Waits while somebody else adds or takes one, which is a matter of microseconds.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with open(os.open(self._directives, flags, _FILE_MODE), "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps({"text": text}).encode() + b"\n")

    @contextlib.contextmanager
    def directives(self) -> Iterator[list[str]]:
        """The texts that wait for the agent; they are removed when the block ends well.

        Empty if another process is just adding one: it is there the next time.
        """
        try:
            fd = os.open(self._directives, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield []
            return
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield []
                return
            with os.fdopen(os.dup(fd), "rb") as file:
                lines = file.read().decode(errors="replace").splitlines()
            yield [_directive(line) for line in lines if line.strip()]
            os.ftruncate(fd, 0)
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
