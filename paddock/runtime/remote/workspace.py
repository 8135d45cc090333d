"""What a run changed in the working directory, and as a diff if that is wanted."""

from __future__ import annotations

import asyncio
import difflib
import io
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from paddock.runtime.remote.artifacts import MAX_LISTED
from paddock.runtime.remote.folders import DEFAULT_IGNORE, Change, Reading, changes, read_folder
from paddock.runtime.remote.uploads import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.redaction import Redactor

__all__ = ["Workspace"]

IGNORED = "\n".join((*DEFAULT_IGNORE, ".git/"))
MAX_ENTRIES = 50_000
"""Entries of the working directory that are looked at: twice for each request, in 0.2 s each."""
MAX_TEXT = 1024 * 1024
"""Bytes of a file whose lines are compared: larger ones are data."""
MAX_KEPT = 64 * 1024 * 1024
"""Bytes of files that are kept to compare with."""
DIFF_NAME = "workspace.diff"


class Workspace:
    """The working directory as one run found it. If it is not `is_wanted`, nothing is read."""

    def __init__(self, folder: str, *, with_diff: bool, is_wanted: bool) -> None:
        self._folder = folder
        self._with_diff = with_diff
        self._is_wanted = is_wanted and folder != "/"
        self._before: Reading | None = None  # until it is known, a run has changed nothing
        self._texts: dict[str, bytes] = {}
        self._changes: list[Change] = []
        self._problem: str | None = None
        self._made: str | None = None

    async def begin(self) -> None:
        """Read how it is now."""
        if self._is_wanted:
            await asyncio.to_thread(self._begin)

    def _begin(self) -> None:
        before = self._before = self._read()
        if not self._with_diff:
            return
        left = MAX_KEPT
        for path, state in before.items():
            if state.size <= min(MAX_TEXT, left):
                self._texts[path] = _contents(os.path.join(self._folder, path))
                left -= state.size

    def _read(self) -> Reading:
        try:
            return read_folder(self._folder, IGNORED, most=MAX_ENTRIES)
        except (OSError, ValueError) as error:
            self._problem = str(error)
            return {}

    async def finish(self, redactor: Redactor) -> Sequence[Artifact]:
        """Read it again; return the diff as an artifact, if it is wanted and not empty."""
        if self._before is None or self._problem is not None:
            return ()
        return await asyncio.to_thread(self._finish, redactor, self._before)

    def _finish(self, redactor: Redactor, before: Reading) -> Sequence[Artifact]:
        after = self._read()
        if self._problem is None:
            self._changes = changes(self._folder, before, after)
        if not self._with_diff:
            return ()
        diff = redactor.text("".join(self._diff()))
        if not diff:
            return ()
        self._made = tempfile.mkdtemp(prefix="paddock-diff-")
        path = os.path.join(self._made, DIFF_NAME)
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(diff)
        return (Artifact(path=path, relative_path=DIFF_NAME, size=len(diff)),)

    def _diff(self) -> Iterator[str]:
        for change in self._changes:
            path = change.relative_path
            old = self._texts.get(path, b"")
            new = (
                b""
                if change.kind == "deleted" or change.size > MAX_TEXT
                else _contents(change.path)
            )
            is_known = change.kind == "added" or path in self._texts
            if not is_known or b"\0" in old or b"\0" in new or change.size > MAX_TEXT:
                yield f"Binary or large file {path} was {change.kind}\n"
                continue
            before = "/dev/null" if change.kind == "added" else f"a/{path}"
            after = "/dev/null" if change.kind == "deleted" else f"b/{path}"
            for line in difflib.unified_diff(_lines(old), _lines(new), before, after):
                yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"

    def metadata(self, more: Sequence[Change]) -> dict[str, Any]:
        """Return what the terminal message says: these changes, and those of artifacts."""
        found = {change.path: change for change in (*self._changes, *more)}
        if not self._is_wanted and not found:
            return {}
        told = [
            {"path": each.path, "kind": each.kind, "size": each.size}
            for _, each in sorted(found.items())
        ]
        metadata: dict[str, Any] = {"changes": told[:MAX_LISTED]}
        if len(told) > MAX_LISTED:
            metadata["changes_total"] = len(told)
        if self._problem is not None:
            metadata["changes_problem"] = self._problem
        return metadata

    def close(self) -> None:
        """Remove what was made."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)


def _contents(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            return file.read(MAX_TEXT)
    except OSError:
        return b""


def _lines(data: bytes) -> list[str]:
    return [line.decode("utf-8", "surrogateescape") for line in io.BytesIO(data)]
