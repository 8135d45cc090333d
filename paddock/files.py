"""The files of a sandbox, by the names that pathlib and the common SDKs use.

Paths are the sandbox's own: text or `PurePosixPath`, relative ones taken from its
working directory. Names that are not UTF-8 travel as Python's surrogate escapes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from abc import abstractmethod
from typing import TYPE_CHECKING

from paddock._arguments import (
    check_bytes,
    check_limit,
    check_one_user,
    check_optional_bytes,
    check_owner,
    check_text,
    check_whole,
)
from paddock._file_transfers import FileTransfers
from paddock._file_watching import WATCHED_MAX, by_looking
from paddock.errors import ConfigError
from paddock.filetypes import (
    DOWNLOAD_LIMIT,
    MODE_MAX,
    READ_LIMIT,
    SEARCH_LIMIT,
    AnyPath,
    FileChange,
    FileInfo,
    FileReader,
    FileWriter,
    GlobResult,
    GrepLine,
    GrepQuery,
    GrepResult,
    TextLines,
    too_large,
)
from paddock.transfers import DEFAULT_IGNORE, SKIPPED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import PurePosixPath

__all__ = [
    "DEFAULT_IGNORE",
    "DOWNLOAD_LIMIT",
    "READ_LIMIT",
    "SEARCH_LIMIT",
    "SKIPPED",
    "AnyPath",
    "FileChange",
    "FileInfo",
    "FileReader",
    "FileSystem",
    "FileWriter",
    "GlobResult",
    "GrepLine",
    "GrepQuery",
    "GrepResult",
    "TextLines",
    "too_large",
]

DEPTH_MAX = 1_000_000
"""Deeper than any tree."""


class FileSystem(FileTransfers):
    """The files of one sandbox. Every method may be called by many tasks at once.

    A cancelled transfer leaves nothing running; a cancelled or failed write leaves the previous
    file intact.

    On every backend, methods raise the exceptions of pathlib, and `ConfigError` for invalid
    arguments. A `limit` of 0 returns nothing, with the same errors and totals as any other.
    """

    async def read_bytes(
        self, path: AnyPath, *, offset: int = 0, limit: int | None = None
    ) -> bytes:
        """Return the contents, or at most `limit` bytes of them from `offset` (bytes).

        Without a `limit`, more than `READ_LIMIT` bytes from `offset` on raise `OSError` with
        `errno.EFBIG`, even if the file grows only meanwhile. A pipe, a socket or a device raises
        one with `errno.EINVAL`. An `offset` beyond the end returns ``b""``.
        """
        return await self._read_bytes(
            self._at(path),
            offset=check_whole("offset", offset),
            limit=_check_limit(limit),
        )

    async def read_lines(
        self, path: AnyPath, *, start: int = 1, limit: int = 500, width: int = 500
    ) -> TextLines:
        """Return `limit` lines from line `start` (the first is 1), as UTF-8 with invalid bytes
        replaced.

        A line longer than `width` characters is cut there and ends in ``...``. The file is never
        held in memory as a whole.
        """
        return await self._read_lines(
            self._at(path),
            start=check_whole("start", start, least=1),
            limit=check_whole("limit", limit),
            width=check_whole("width", width),
        )

    async def write_bytes(
        self,
        path: AnyPath,
        data: bytes,
        *,
        exclusive: bool = False,
        expect: bytes | None = None,
    ) -> None:
        """Write the whole file; create missing parent directories.

        A cancelled or failed write changes nothing. With `exclusive` the file must not exist
        (`FileExistsError`); with `expect` it must still have these contents (`FileChanged`).

        An existing file must be writable (`PermissionError`). It keeps its owner, its permissions
        (but no set-user-id bit) and its other names. Usually a new file replaces it in one step.
        A file with other names (hard links), of an owner whose files this user cannot create, or
        in a directory that takes no new files, is overwritten instead, once all of `data` is in
        the sandbox. A reader at that moment may see a part of either.
        """
        await self._write_bytes(
            self._at(path),
            check_bytes("data", data),
            exclusive=bool(exclusive),
            expect=check_optional_bytes("expect", expect),
        )

    async def read_text(self, path: AnyPath, *, encoding: str = "utf-8") -> str:
        """Return the contents as text; raise `UnicodeDecodeError` for other bytes."""
        return (await self.read_bytes(path)).decode(encoding)

    async def write_text(self, path: AnyPath, text: str, *, encoding: str = "utf-8") -> None:
        """Write text as `write_bytes` does; raise `UnicodeEncodeError` if it cannot be encoded."""
        if not isinstance(text, str):
            raise ConfigError(f"text: give text (str), not {type(text).__name__}")
        await self.write_bytes(path, text.encode(encoding))

    async def append(self, path: AnyPath, data: bytes | str) -> None:
        """Append to a file; create it and its parent directories if they are missing.

        Text is written as UTF-8. All of it is added, or nothing.
        """
        added = data.encode() if isinstance(data, str) else check_bytes("data", data)
        await self._append(self._at(path), added)

    def open_read(
        self, path: AnyPath, *, offset: int = 0
    ) -> AbstractAsyncContextManager[FileReader]:
        """Open a file of any size, to read it in pieces from `offset` (bytes).

        ::

            async with sandbox.fs.open_read("big.log") as file:
                async for piece in file:
                    ...

        Entering raises what pathlib raises for `open`. At most about 1 MiB is buffered: a slow
        reader slows the sandbox down. What is added to the file meanwhile is not read.
        """
        return self._enter_read(path, offset)

    @contextlib.asynccontextmanager
    async def _enter_read(self, path: AnyPath, offset: int) -> AsyncGenerator[FileReader]:
        pieces = self._open_read(self._at(path), offset=check_whole("offset", offset))
        async with contextlib.aclosing(pieces):
            first = await anext(pieces, b"")  # an error of opening comes before any piece
            yield FileReader(first, pieces)

    def open_archive(self, path: AnyPath) -> AbstractAsyncContextManager[FileReader]:
        """Open a directory tree as one tar stream, to read it in pieces.

        ::

            async with sandbox.fs.open_archive("project") as archive:
                async for piece in archive:
                    ...

        Names are relative to `path`. The archive has the files, directories and symbolic links.
        The sandbox makes it, so do not trust it; `download` checks what it extracts. Raises
        `NotADirectoryError` for anything but a directory, and what pathlib raises for `iterdir`.
        """
        return self._enter_archive(path)

    @contextlib.asynccontextmanager
    async def _enter_archive(self, path: AnyPath) -> AsyncGenerator[FileReader]:
        there = self._at(path)
        if (await self._stat(there, follow=True)).kind != "directory":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        async with contextlib.aclosing(self._open_archive(there)) as pieces:
            yield FileReader(await anext(pieces, b""), pieces)

    def watch(
        self, path: AnyPath, *, interval: float = 1.0
    ) -> AbstractAsyncContextManager[AsyncIterator[FileChange]]:
        """Watch a directory for changes, at any depth, until it is removed.

        ::

            async with sandbox.fs.watch("src") as changes:
                async for change in changes:
                    print(change.kind, change.path)

        Watching has begun when the block is entered. A change is a difference between two looks
        at the directory: at each notification of the sandbox's kernel, or every `interval` seconds
        if it sends none. So a file that comes and goes between two looks is not reported, and a
        moved one is reported as removed and created. Links are not followed. Raises what pathlib
        raises for `iterdir`, and `OSError` (`errno.E2BIG`) for more than 100,000 files.
        """
        return self._enter_watch(path, check_limit("interval", interval) or 1.0)

    @contextlib.asynccontextmanager
    async def _enter_watch(
        self, path: AnyPath, interval: float
    ) -> AsyncGenerator[AsyncIterator[FileChange]]:
        async with contextlib.aclosing(self._watch(self._at(path), interval)) as told:
            await anext(told)  # that it has begun, or an error
            yield (change async for change in told if change is not None)

    def _watch(self, path: PurePosixPath, interval: float) -> AsyncGenerator[FileChange | None]:
        """Implement `watch`: yield None as soon as it has begun, then the changes."""

        async def look() -> Sequence[FileInfo]:
            most = WATCHED_MAX + 1
            found = await self._list(path, depth=DEPTH_MAX, hidden=True, limit=most)
            if len(found) == most:
                raise OSError(errno.E2BIG, "Too many files to watch", str(path))
            return found

        return by_looking(look, interval)

    def open_write(
        self, path: AnyPath, *, append: bool = False, exclusive: bool = False
    ) -> AbstractAsyncContextManager[FileWriter]:
        """Open a file, to write it in pieces: ``await file.write(data)``.

        The end of the block acts as one `write_bytes`, or one `append`. Until then, and if the
        block ends with an exception or is cancelled, nothing changes. Entering raises what pathlib
        raises for `open`. A `write` waits until the sandbox takes the data.
        """
        return self._enter_write(path, append, exclusive)

    @contextlib.asynccontextmanager
    async def _enter_write(
        self, path: AnyPath, append: bool, exclusive: bool
    ) -> AsyncGenerator[FileWriter]:
        opened = self._open_write(self._at(path), append=bool(append), exclusive=bool(exclusive))
        async with opened as file:
            yield file

    async def list(
        self, path: AnyPath = ".", *, depth: int = 1, hidden: bool = True, limit: int | None = None
    ) -> list[FileInfo]:
        """Return the entries of a directory, sorted by path, down to `depth` levels (1 or more).

        Links are not followed. The directories in `SKIPPED` are listed but not entered.
        """
        found = await self._list(
            self._at(path),
            depth=check_whole("depth", depth, least=1),
            hidden=bool(hidden),
            limit=_check_limit(limit),
        )
        return list(found)

    async def stat(self, path: AnyPath) -> FileInfo:
        """Return what `path` is; a symbolic link is followed."""
        return await self._stat(self._at(path), follow=True)

    async def lstat(self, path: AnyPath) -> FileInfo:
        """Return what `path` is; a symbolic link is not followed."""
        return await self._stat(self._at(path), follow=False)

    async def exists(self, path: AnyPath) -> bool:
        """Return whether `path` exists; False for a broken link."""
        try:
            await self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return False
        return True

    async def mkdir(self, path: AnyPath, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Create a directory."""
        await self._mkdir(self._at(path), parents=bool(parents), exist_ok=bool(exist_ok))

    async def remove(self, path: AnyPath, *, recursive: bool = False) -> None:
        """Remove a file, a link (not what it points to) or a directory."""
        await self._remove(self._at(path), recursive=bool(recursive))

    async def move(self, source: AnyPath, destination: AnyPath) -> None:
        """Rename; an existing file at `destination` is replaced."""
        await self._move(self._at(source, "source"), self._at(destination, "destination"))

    async def copy(self, source: AnyPath, destination: AnyPath) -> None:
        """Copy a file or a directory inside the sandbox; create missing parents.

        A file is written as by `write_bytes`; a new one gets the permissions of `source`. A
        directory is copied to a new one (`FileExistsError` if it exists), all of it or nothing.
        Links in it are copied as links. Permissions and modification times are kept; owners,
        hard links and set-id bits are not. A copy of a directory into itself or of a file onto
        itself, and a pipe, a socket or a device anywhere in the source, raise `OSError` with
        `errno.EINVAL`.
        """
        await self._copy(self._at(source, "source"), self._at(destination, "destination"))

    def as_user(self, user: str) -> FileSystem:
        """Return the same files, with the rights of another user.

        New files belong to `user`: ``name``, ``uid``, ``name:group`` or ``uid:gid``. Raises
        `Unsupported` without `Capability.USER`. If the sandbox does not have the user, the first
        call raises `ConfigError`.
        """
        return self._as_user(check_one_user("user", user))

    @abstractmethod
    def _as_user(self, user: str) -> FileSystem:
        """Implement `as_user`; raise `Unsupported` without `Capability.USER`."""

    async def chown(
        self, path: AnyPath, user: str | int | None = None, group: str | int | None = None
    ) -> None:
        """Change the owner, the group or both, by name or number; a symbolic link is followed.

        Works as `shutil.chown`. A user or group that the sandbox does not have raises
        `ConfigError`.
        """
        if user is None and group is None:
            raise ConfigError("chown: give a user, a group, or both")
        owner = None if user is None else check_owner("user", user)
        await self._chown(
            self._at(path), owner, None if group is None else check_owner("group", group)
        )

    async def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permission bits, such as ``0o644``; a symbolic link is followed."""
        await self._chmod(self._at(path), check_whole("mode", mode, most=MODE_MAX))

    async def glob(
        self, pattern: str, path: AnyPath = ".", *, limit: int | None = None
    ) -> GlobResult:
        """Find files below `path` that match `pattern`; return at most `limit` of them.

        A pattern may use ``*``, ``?``, ``[...]``, ``{a,b}`` and ``**``; without a slash it
        matches names at any depth. The directories in `SKIPPED` are not entered.
        """
        return await self._glob(
            check_text("pattern", pattern), self._at(path), limit=_check_limit(limit)
        )

    async def grep(
        self,
        pattern: str,
        path: AnyPath = ".",
        *,
        glob: str | None = None,
        ignore_case: bool = False,
        context: int = 0,
        limit: int = 100,
    ) -> GrepResult:
        """Find lines that match a regular expression in one text file or those below `path`.

        Each match comes with `context` lines before and after; `limit` bounds the matches. The
        search stops after `SEARCH_LIMIT` bytes of one file; the result then names that file.
        Raises `ValueError` for a bad pattern.
        """
        query = GrepQuery(
            pattern=check_text("pattern", pattern),
            path=self._at(path),
            glob=None if glob is None else check_text("glob", glob),
            ignore_case=bool(ignore_case),
            context=check_whole("context", context),
            limit=check_whole("limit", limit),
        )
        return await self._grep(query)


def _check_limit(limit: object) -> int | None:
    return None if limit is None else check_whole("limit", limit)
