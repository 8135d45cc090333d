"""The directory of a batch: its lock, its configuration, a folder for each attempt, exports.

`ledger.db` is the truth. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._directory import PrivateDirectory
from paddock.errors import ConfigError, SessionLocked
from paddock.runtime.fleet.tasks import folder_name
from paddock.runtime.fleet.texts import storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["RunDirectory", "read_lines"]

LOCK, CONFIGURATION, LEDGER = "run.lock", "run.json", "ledger.db"
TASKS, RESULTS = "tasks.jsonl", "results.jsonl"

MAX_CONFIGURATION = 16 * 2**20
"""Bytes of run.json."""


class RunDirectory:
    """The directory `path`, which one process at a time writes: opening it to write locks it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._files = PrivateDirectory(self.path)
        self._lock: int | None = None

    def lock(self) -> None:
        """Become the owner; raise `SessionLocked` if another process is."""
        self._files.make()
        fd = self._files.open(LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 4096, 0)
            os.close(fd)
            raise _locked(self.path, holder) from None
        except BaseException:
            os.close(fd)
            raise
        self._lock = fd
        os.truncate(fd, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"pid": os.getpid(), "host": os.uname().nodename, "since": since}
        os.pwrite(fd, json.dumps(owner).encode(), 0)

    def unlock(self) -> None:
        """Let go; idempotent."""
        fd, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)

    def is_locked(self) -> bool:
        """Return whether a process owns it."""
        return self._files.is_locked(LOCK)

    @property
    def ledger(self) -> Path:
        return self.path / LEDGER

    @property
    def results(self) -> Path:
        return self.path / RESULTS

    def exists(self) -> bool:
        """Return whether there is a batch."""
        return (self.path / CONFIGURATION).exists()

    def require_new(self) -> None:
        """Raise `ConfigError` if there is a batch, or anything else that a batch would replace.

        What a beginning that was killed has left is no obstacle.
        """
        if self.exists():
            raise ConfigError(
                f"there is a batch in {self.path}; resume it, or choose another directory"
            )
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self.path)
            if names and LOCK not in names:
                raise ConfigError(f"{self.path} is not empty; choose another directory")

    def configuration(self) -> dict[str, Any]:
        """Return what run.json says. Raise `ConfigError` if there is no batch here."""
        try:
            found = json.loads(self._files.read(CONFIGURATION, MAX_CONFIGURATION))
        except FileNotFoundError:
            raise ConfigError(f"{self.path} is not the directory of a batch: no run.json") from None
        except ValueError as error:
            raise ConfigError(f"{self.path / CONFIGURATION} is damaged: {error}") from None
        if not isinstance(found, dict) or not isinstance(found.get("run_id"), str):
            raise ConfigError(f"{self.path / CONFIGURATION} is not the configuration of a batch")
        return found

    def write(self, name: str, text: str) -> None:
        """Write a file of the batch, atomically."""
        self._files.replace(name, text.encode())

    def write_configuration(self, configuration: Mapping[str, Any]) -> None:
        self.write(CONFIGURATION, json.dumps(configuration, indent=2, sort_keys=True) + "\n")
        self._files.sync()

    def folder(self, key: str, number: int) -> Path:
        """Return where the files of an attempt are once it has ended."""
        return self.path / "tasks" / folder_name(key) / f"attempt-{number}"

    def draft(self, key: str, number: int) -> Path:
        """Make and return the empty folder in which an attempt writes its files."""
        final = self.folder(key, number)
        draft = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
        draft.mkdir(mode=0o700, parents=True)
        return draft

    def publish(self, draft: Path, key: str, number: int) -> None:
        """Give the files of an attempt their place."""
        final = self.folder(key, number)
        if final.exists():  # of an attempt with this number whose end was not written
            shutil.rmtree(final)
        draft.rename(final)

    def remove_drafts(self) -> None:
        """Remove what attempts of dead owners have written."""
        for draft in self.path.glob("tasks/*/.attempt-*"):
            shutil.rmtree(draft)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line to results.jsonl."""
        fd = self._files.open(RESULTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with open(fd, "wb") as file:
            file.write(encoded(line))

    def rebuild(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write results.jsonl anew."""
        draft = self.path / f".{RESULTS}.draft"
        with contextlib.ExitStack() as stack:
            stack.callback(draft.unlink, missing_ok=True)
            self._files.remove(draft.name)
            fd = self._files.open(draft.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with open(fd, "wb") as file:
                file.writelines(encoded(line) for line in lines)
            draft.rename(self.results)


def encoded(line: Mapping[str, Any]) -> bytes:
    text = json.dumps(line, ensure_ascii=False)
    if text != storable(text):
        text = json.dumps(line)
    return text.encode() + b"\n"


def read_lines(path: Path) -> tuple[list[Any], bool]:
    """Return the values in results.jsonl, and whether its last line was torn and left out."""
    try:
        *whole, tail = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], False
    return [json.loads(line) for line in whole if line.strip()], bool(tail)


def _locked(path: Path, holder: bytes) -> SessionLocked:
    try:
        known = json.loads(holder)
        pid, host, since = int(known["pid"]), str(known["host"]), str(known["since"])
        return SessionLocked(str(path), pid=pid, host=host, since=since)
    except (ValueError, KeyError, TypeError):
        return SessionLocked(str(path))
