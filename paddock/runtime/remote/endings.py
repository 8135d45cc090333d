"""How runs ended, on disk, for clients that lost their connection and servers that restart."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from paddock._logs import get_logger

if TYPE_CHECKING:
    from paddock.runtime.remote.framelog import FrameLog

__all__ = ["Endings"]

_log = get_logger(__name__)

IN_HOME = "~/.local/state/paddock/serve"
RESULT_KEPT = 24 * 3600.0
"""Seconds for which a result is kept that was too large for its client."""
CLEANING_INTERVAL = 60.0
"""Seconds between two looks for files that are old: they are small, and kept for an hour."""
RESULT = "result-"
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Endings:
    """Files of a directory that only this user can read. What they have holds no secrets.

    Without a `folder` they are in the user's home, or if that cannot be written, in a directory of
    their own for temporary files. It is made when it is first needed. All methods block.
    """

    def __init__(self, folder: str | None, *, kept: float) -> None:
        self._folder = Path(os.path.expanduser(folder or IN_HOME))
        self._kept = kept
        self._is_ready = False
        self._cleaned = 0.0

    def save(self, run_id: str, log: FrameLog) -> None:
        """Keep the last frame of a run; where that cannot be done, say so in the log."""
        found = log.after(log.last - 1)
        try:
            if found is not None:
                self._write(f"{run_id}.json", json.dumps(found))
        except OSError as error:
            _log.warning("the end of run %s cannot be kept: %s", run_id, error)

    def load(self, run_id: str) -> tuple[int, str] | None:
        """Return the last frame of a run and its number, if it is kept."""
        path = self._folder / f"{run_id}.json"
        if not self.has(run_id) or not _is_private(self._folder):
            return None
        try:
            number, text = json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return number, text

    def has(self, run_id: str) -> bool:
        """Whether the end of a run may be kept; this does not block for long."""
        return bool(_RUN_ID.fullmatch(run_id)) and (self._folder / f"{run_id}.json").exists()

    def save_text(self, text: str) -> str:
        """Keep what is too long for a frame for a day; return the path of the file."""
        return str(self._write(f"{RESULT}{uuid.uuid4()}.json", text))

    def _write(self, name: str, text: str) -> Path:
        self._prepare()
        path = self._folder / name
        beside = path.with_suffix(".new")
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)  # a disk that is full has no room for half of it
            raise
        return path

    def _prepare(self) -> None:
        if not self._is_ready:
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(self._folder):  # or not writable by this user
                self._folder = Path(tempfile.mkdtemp(prefix="paddock-serve-"))
            self._is_ready = True
        if time.monotonic() - self._cleaned > CLEANING_INTERVAL:
            self._remove_old()

    def _remove_old(self) -> None:
        self._cleaned = time.monotonic()
        now = time.time()
        for path in self._folder.glob("*-*-*-*-*.json"):
            is_result = path.name.startswith(RESULT)
            if not _RUN_ID.fullmatch(path.stem.removeprefix(RESULT)):
                continue  # not ours
            with contextlib.suppress(FileNotFoundError):
                age = now - path.stat().st_mtime
                if age > (RESULT_KEPT if is_result else self._kept):
                    path.unlink()

    def close(self) -> None:
        """Remove the directory if nothing is kept."""
        if self._is_ready:
            self._remove_old()
            with contextlib.suppress(OSError):  # something is kept there
                self._folder.rmdir()


def _is_private(folder: Path) -> bool:
    try:
        info = folder.lstat()
    except OSError:
        return False
    is_own = info.st_uid == os.getuid() and stat.S_ISDIR(info.st_mode)
    return is_own and not stat.S_IMODE(info.st_mode) & 0o077
