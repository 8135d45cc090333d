"""The files of a sandbox, by the names that pathlib and the common SDKs use.

Paths are the sandbox's own: text or `PurePosixPath`, relative ones taken from its
working directory. Names that are not UTF-8 travel as Python's surrogate escapes.
"""

from __future__ import annotations

import asyncio
import errno
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from paddock._arguments import (
    check_bytes,
    check_callback,
    check_choice,
    check_local_path,
    check_optional_bytes,
    check_path,
    check_patterns,
    check_text,
    check_whole,
)
from paddock.errors import ConfigError
from paddock.transfers import DEFAULT_IGNORE, SKIPPED, Links, Transfer, Tree

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from paddock.transfers import TransferCallback

__all__ = [
    "DEFAULT_IGNORE",
    "DOWNLOAD_LIMIT",
    "READ_LIMIT",
    "SEARCH_LIMIT",
    "SKIPPED",
    "FileInfo",
    "FileSystem",
    "GlobResult",
    "GrepLine",
    "GrepResult",
    "TextLines",
    "too_large",
]

AnyPath = str | PurePosixPath

READ_LIMIT = 100 * 1024 * 1024
"""Bytes that `FileSystem.read_bytes` returns at most, unless it is given a `limit`."""

SEARCH_LIMIT = 256 * 1024 * 1024
"""Bytes of one file that are searched, or counted as lines, at most: more than people write, and
searched within a minute. Ripgrep, which is faster, reads 16 times as much. A file may be endless:
sparse, or growing faster than it is read."""

DOWNLOAD_LIMIT = 64 * 1024**3
"""Bytes of one download, holes included: above any project, below what fills a host unnoticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One entry. `size` in bytes, `modified` in seconds since 1970, `mode` the permission bits."""

    path: PurePosixPath
    kind: Literal["file", "directory", "symlink", "other"]
    size: int
    mode: int
    modified: float

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobResult:
    """`paths` (absolute, sorted), and how many there were in all."""

    paths: tuple[PurePosixPath, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrepLine:
    """One line of a file: `line` counts from 1; `match` is False for context around a match."""

    path: PurePosixPath
    line: int
    text: str
    match: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GrepResult:
    """`lines` in order of path and line; `truncated` when there were more matches.

    `too_long` is the file, of more than `SEARCH_LIMIT` bytes, in which the search ended. The rest
    of it and the files after it were not searched.
    """

    lines: tuple[GrepLine, ...]
    truncated: bool
    too_long: PurePosixPath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLines:
    """Some `lines` of a file (without their ends), and how many it has in all.

    `whole` is False if it has more than `SEARCH_LIMIT` bytes: then only these count.
    """

    lines: tuple[str, ...]
    total: int
    whole: bool = True


def too_large(path: str, size: int) -> OSError:
    """Return the error of `read_bytes` for a file of `size` bytes, or of that many so far."""
    return OSError(
        errno.EFBIG,
        f"File has {size} bytes or more, and reading it whole is limited to {READ_LIMIT}; "
        "read a part of it (offset=, limit=) or download it",
        path,
    )


class Root(Protocol):
    """The part of a sandbox that its files depend on."""

    def path(self, path: AnyPath) -> PurePosixPath: ...

    def raise_if_closed(self) -> None: ...


class FileSystem(ABC):
    """The files of one sandbox. Every method may be called by many tasks at once.

    A cancelled transfer leaves nothing running; a cancelled or failed write leaves
    the file that was there before, whole.

    Methods raise the exceptions of pathlib, and `ConfigError` for arguments that make no
    sense, on every backend the same. A `limit` of 0 asks for nothing: it returns nothing, and
    the errors and totals are as with any other limit.
    """

    def __init__(self, root: Root) -> None:
        self._root = root

    def _at(self, path: AnyPath, name: str = "path") -> PurePosixPath:
        """Return the absolute path of a file of the sandbox. Raise `SandboxClosed`."""
        found = check_path(name, path)
        self._root.raise_if_closed()
        return self._root.path(found)

    async def read_bytes(
        self, path: AnyPath, *, offset: int = 0, limit: int | None = None
    ) -> bytes:
        """Return the contents, or at most `limit` bytes of them from `offset` (bytes).

        Without a `limit` a file may have `READ_LIMIT` bytes from `offset` on. Raises
        `OSError` with `errno.EFBIG` for a larger one, or one that grows beyond that
        meanwhile, and with `errno.EINVAL` for a pipe, a socket or a device. Beyond the end
        of a file there is nothing: ``b""``.
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

        A line longer than `width` characters is cut there and ends in ``...``. The
        file is never held in memory whole.
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
        """Write the whole file, atomically, making its parent directories.

        An existing file keeps its permission bits. With `exclusive` it must not be
        there (`FileExistsError`); with `expect` it must still have these contents
        (`FileChanged`).
        """
        await self._write_bytes(
            self._at(path),
            check_bytes("data", data),
            exclusive=bool(exclusive),
            expect=check_optional_bytes("expect", expect),
        )

    async def read_text(self, path: AnyPath, *, encoding: str = "utf-8") -> str:
        """Return the contents as text; raise `UnicodeDecodeError` if they are not."""
        return (await self.read_bytes(path)).decode(encoding)

    async def write_text(self, path: AnyPath, text: str, *, encoding: str = "utf-8") -> None:
        """Write the whole file as `write_bytes` does; raise `UnicodeEncodeError` for text that
        has no such encoding."""
        if not isinstance(text, str):
            raise ConfigError(f"text: give text (str), not {type(text).__name__}")
        await self.write_bytes(path, text.encode(encoding))

    async def list(
        self, path: AnyPath = ".", *, depth: int = 1, hidden: bool = True, limit: int | None = None
    ) -> list[FileInfo]:
        """Return the entries of a directory, sorted by path, down to `depth` levels (1 or more).

        Links are not followed. The directories of `SKIPPED` are named but not entered.
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
        return await self._stat(self._at(path))

    async def exists(self, path: AnyPath) -> bool:
        """Return whether something is there; a link that leads nowhere is not."""
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
        """Make a directory."""
        await self._mkdir(self._at(path), parents=bool(parents), exist_ok=bool(exist_ok))

    async def remove(self, path: AnyPath, *, recursive: bool = False) -> None:
        """Remove a file, a link (not what it points to) or a directory."""
        await self._remove(self._at(path), recursive=bool(recursive))

    async def move(self, source: AnyPath, destination: AnyPath) -> None:
        """Rename; an existing file at `destination` is replaced."""
        await self._move(self._at(source, "source"), self._at(destination, "destination"))

    async def glob(
        self, pattern: str, path: AnyPath = ".", *, limit: int | None = None
    ) -> GlobResult:
        """Find files below `path` that match `pattern`; return at most `limit` of them.

        A pattern has ``*``, ``?``, ``[...]``, ``{a,b}`` and ``**``; without a slash it
        matches names at any depth. `SKIPPED` directories
        are not entered.
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
        """Find lines that match a regular expression in the text files below `path` (or in one
        file).

        `context` lines are given before and after; `limit` bounds the matches. The search ends
        in a file of more than `SEARCH_LIMIT` bytes, and the result names it.
        Raises `ValueError` for a bad pattern.
        """
        return await self._grep(
            check_text("pattern", pattern),
            self._at(path),
            glob=None if glob is None else check_text("glob", glob),
            ignore_case=bool(ignore_case),
            context=check_whole("context", context),
            limit=check_whole("limit", limit),
        )

    async def upload_file(
        self,
        source: str | os.PathLike[str],
        destination: AnyPath,
        *,
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy one file of this machine into the sandbox, by pieces, atomically."""
        return await self._upload_file(
            Path(check_local_path("source", source)),
            self._at(destination, "destination"),
            check_callback("on_progress", on_progress),
        )

    async def download_file(
        self,
        source: AnyPath,
        destination: str | os.PathLike[str],
        *,
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy one file of the sandbox to this machine, by pieces, atomically.

        Holes of a sparse file stay holes, as far as 256 KiB of zeros in a row are written as
        one. Raises `OSError` with `errno.EFBIG` for more than `DOWNLOAD_LIMIT` bytes.
        """
        return await self._download_file(
            self._at(source, "source"),
            Path(check_local_path("destination", destination)),
            check_callback("on_progress", on_progress),
        )

    async def upload(
        self,
        source: str | os.PathLike[str],
        destination: AnyPath,
        *,
        ignore: Iterable[str] = DEFAULT_IGNORE,
        gitignore: bool = False,
        links: Links = "keep",
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy a file or a tree of this machine into the sandbox, a tree as one tar stream.

        A tree's contents are merged into the directory `destination`. Permission bits and
        times of change are kept, owners are not.

        - `ignore` are patterns as in a .gitignore file: a name is ignored at any depth, a
          pattern with a slash in it begins at `source`, and the last one that matches decides.
        - With `gitignore`, the .gitignore files in the tree apply too, after `ignore`.
        - `links` says what happens to symbolic links. They are kept as they are by default:
          inside a sandbox they lead nowhere else. With ``"skip"`` they are left out, and with
          ``"refuse"`` a tree that has any raises `ValueError` before anything is sent.
        - `on_progress` is called with the bytes of the stream that were sent.

        Devices, named pipes, sockets, set-id bits and entries whose path would be longer than
        4095 bytes are left out. The result says what was. Raises `ConfigError` for options that
        make no sense.
        """
        here, there = Path(check_local_path("source", source)), self._at(destination, "destination")
        tree = _tree(ignore, gitignore, links, on_progress)
        if await asyncio.to_thread(here.is_dir):
            return await self._upload_tree(here, there, tree)
        return await self._upload_file(here, there, on_progress)

    async def download(
        self,
        source: AnyPath,
        destination: str | os.PathLike[str],
        *,
        ignore: Iterable[str] = (),
        gitignore: bool = False,
        links: Links = "keep",
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy a file or a tree of the sandbox to this machine, a tree as one tar stream.

        The options are those of `upload`. Of symbolic links only those are kept that lead to a
        place in the tree; an absolute one into `source` becomes relative. Others are left out,
        as are devices, named pipes, sockets, set-id bits, and paths that would be longer than
        4095 bytes here. Hard links become copies. The result says what was left out.

        What the sandbox sends is not trusted. A stream that a packer does not make, such as
        one with ``..`` in a name, raises `ValueError`, and so does a tree of more than a million
        entries or `DOWNLOAD_LIMIT` bytes; then nothing of the tree is left. A file of more
        than these raises `OSError` (`errno.EFBIG`).
        """
        there, here = self._at(source, "source"), Path(check_local_path("destination", destination))
        tree = _tree(ignore, gitignore, links, on_progress)
        info = await self._stat(there)
        if info.kind == "directory":
            return await self._download_tree(there, here, tree)
        if info.size > DOWNLOAD_LIMIT:
            raise OSError(
                errno.EFBIG,
                f"File has {info.size} bytes, and a download is limited to {DOWNLOAD_LIMIT}",
                str(source),
            )
        return await self._download_one(there, info, here, on_progress)

    # what a backend supplies: paths are absolute and arguments checked

    @abstractmethod
    async def _read_bytes(self, path: PurePosixPath, *, offset: int, limit: int | None) -> bytes:
        """For `read_bytes`."""

    @abstractmethod
    async def _read_lines(
        self, path: PurePosixPath, *, start: int, limit: int, width: int
    ) -> TextLines:
        """For `read_lines`."""

    @abstractmethod
    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        """For `write_bytes`."""

    @abstractmethod
    async def _list(
        self, path: PurePosixPath, *, depth: int, hidden: bool, limit: int | None
    ) -> Sequence[FileInfo]:
        """For `list`."""

    @abstractmethod
    async def _stat(self, path: PurePosixPath) -> FileInfo:
        """For `stat`."""

    @abstractmethod
    async def _mkdir(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        """For `mkdir`."""

    @abstractmethod
    async def _remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        """For `remove`."""

    @abstractmethod
    async def _move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        """For `move`."""

    @abstractmethod
    async def _glob(self, pattern: str, path: PurePosixPath, *, limit: int | None) -> GlobResult:
        """For `glob`."""

    @abstractmethod
    async def _grep(
        self,
        pattern: str,
        path: PurePosixPath,
        *,
        glob: str | None,
        ignore_case: bool,
        context: int,
        limit: int,
    ) -> GrepResult:
        """For `grep`."""

    @abstractmethod
    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        """For `upload_file`."""

    @abstractmethod
    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        """For `download_file`."""

    @abstractmethod
    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        """For `upload`."""

    @abstractmethod
    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        """For `download`."""

    async def _download_one(
        self,
        source: PurePosixPath,
        info: FileInfo,
        destination: Path,
        on_progress: TransferCallback | None,
    ) -> Transfer:
        """`download_file` of what is known already."""
        return await self._download_file(source, destination, on_progress)


def _check_limit(limit: object) -> int | None:
    return None if limit is None else check_whole("limit", limit)


def _tree(
    ignore: Iterable[str], gitignore: bool, links: Links, on_progress: TransferCallback | None
) -> Tree:
    return Tree(
        ignore=check_patterns("ignore", ignore),
        gitignore=gitignore,
        links=check_choice("links", links, get_args(Links)),
        on_progress=check_callback("on_progress", on_progress),
    )
