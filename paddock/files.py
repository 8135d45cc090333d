"""The files of a sandbox, by the names that pathlib and the common SDKs use.

Paths are the sandbox's own: text or `PurePosixPath`, relative ones taken from its
working directory. Names that are not UTF-8 travel as Python's surrogate escapes.
"""

from __future__ import annotations

import asyncio
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEFAULT_IGNORE",
    "DOWNLOAD_LIMIT",
    "READ_LIMIT",
    "SKIPPED",
    "FileInfo",
    "FileSystem",
    "GlobResult",
    "GrepLine",
    "GrepResult",
    "SentCallback",
    "TextLines",
    "too_large",
]

AnyPath = str | PurePosixPath
SentCallback = Callable[[int, int | None], None]
"""Told on the event loop of the bytes that were sent, and of how many, if that is known."""

SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".venv", "venv"})
"""Directories that searches do not enter: what tools made, not what people wrote."""

READ_LIMIT = 100 * 1024 * 1024
"""Bytes that `FileSystem.read_bytes` returns at most, unless it is given a `limit`."""

DOWNLOAD_LIMIT = 64 * 1024**3
"""Bytes of one download, holes included: above any project, below what fills a host unnoticed."""

DEFAULT_IGNORE = SKIPPED | {".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
"""Names that an upload leaves out unless told otherwise."""


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
    """`lines` in order of path and line; `truncated` when there were more matches."""

    lines: tuple[GrepLine, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLines:
    """Some `lines` of a file (without their ends), and how many it has in all."""

    lines: tuple[str, ...]
    total: int


def too_large(path: str, size: int) -> OSError:
    """Return the error of `read_bytes` for a file of `size` bytes, or of that many so far."""
    return OSError(
        errno.EFBIG,
        f"File has {size} bytes or more, and reading it whole is limited to {READ_LIMIT}; "
        "read a part of it (offset=, limit=) or download it",
        path,
    )


class FileSystem(ABC):
    """The files of one sandbox. Every method may be called by many tasks at once.

    A cancelled transfer leaves nothing running; a cancelled or failed write leaves
    the file that was there before, whole.
    """

    @abstractmethod
    async def read_bytes(
        self, path: AnyPath, *, offset: int = 0, limit: int | None = None
    ) -> bytes:
        """Return the contents, or at most `limit` bytes of them from `offset` (bytes).

        Without a `limit` a file may have `READ_LIMIT` bytes from `offset` on. Raises
        `OSError` with `errno.EFBIG` for a larger one, or one that grows beyond that
        meanwhile, and with `errno.EINVAL` for a pipe, a socket or a device.
        """

    @abstractmethod
    async def read_lines(
        self, path: AnyPath, *, start: int = 1, limit: int = 500, width: int = 500
    ) -> TextLines:
        """`limit` lines from line `start`, as UTF-8 with invalid bytes replaced.

        A line longer than `width` characters is cut there and ends in ``...``. The
        file is never held in memory whole.
        """

    @abstractmethod
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

    @abstractmethod
    async def list(
        self, path: AnyPath = ".", *, depth: int = 1, hidden: bool = True, limit: int | None = None
    ) -> list[FileInfo]:
        """The entries of a directory, sorted by path, down to `depth` levels.

        Links are not followed. The directories of `SKIPPED` are named but not entered.
        """

    @abstractmethod
    async def stat(self, path: AnyPath) -> FileInfo:
        """What `path` is; a symbolic link is followed."""

    @abstractmethod
    async def mkdir(self, path: AnyPath, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make a directory."""

    @abstractmethod
    async def remove(self, path: AnyPath, *, recursive: bool = False) -> None:
        """Remove a file, a link (not what it points to) or a directory."""

    @abstractmethod
    async def move(self, source: AnyPath, destination: AnyPath) -> None:
        """Rename; an existing file at `destination` is replaced."""

    @abstractmethod
    async def glob(
        self, pattern: str, path: AnyPath = ".", *, limit: int | None = None
    ) -> GlobResult:
        """Files below `path` that match `pattern`, at most `limit` of them.

        A pattern has ``*``, ``?``, ``[...]``, ``{a,b}`` and ``**``; without a slash it
        matches names at any depth. `SKIPPED` directories
        are not entered.
        """

    @abstractmethod
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
        """Lines that match a regular expression, in the text files below `path` (or in one file).

        `context` lines are given before and after; `limit` bounds the matches.
        Raises `ValueError` for a bad pattern.
        """

    @abstractmethod
    async def upload_file(
        self,
        source: str | os.PathLike[str],
        destination: AnyPath,
        *,
        on_sent: SentCallback | None = None,
    ) -> None:
        """Copy one file of this machine into the sandbox, by pieces, atomically."""

    @abstractmethod
    async def download_file(self, source: AnyPath, destination: str | os.PathLike[str]) -> None:
        """Copy one file of the sandbox to this machine, by pieces, atomically.

        Holes of a sparse file stay holes, as far as 256 KiB of zeros in a row are written as
        one. Raises `OSError` with `errno.EFBIG` for more than `DOWNLOAD_LIMIT` bytes.
        """

    async def read_text(self, path: AnyPath, *, encoding: str = "utf-8") -> str:
        """The contents as text; raises `UnicodeDecodeError` if they are not."""
        return (await self.read_bytes(path)).decode(encoding)

    async def write_text(self, path: AnyPath, text: str, *, encoding: str = "utf-8") -> None:
        """Write the whole file, atomically, making its parent directories."""
        await self.write_bytes(path, text.encode(encoding))

    async def exists(self, path: AnyPath) -> bool:
        """Whether something is there; a dangling link is not."""
        try:
            await self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def upload(
        self,
        source: str | os.PathLike[str],
        destination: AnyPath,
        *,
        ignore: Iterable[str] = DEFAULT_IGNORE,
        on_sent: SentCallback | None = None,
    ) -> None:
        """Copy a file or a tree of this machine into the sandbox, a tree as one tar stream.

        A tree's contents are merged into the directory `destination`; entries whose
        name is in `ignore` are left out. Links travel as links; one that leads out of
        the tree is refused with `ValueError`. `on_sent` hears how far it is.
        """
        if await asyncio.to_thread(os.path.isdir, source):
            await self._upload_tree(Path(source), destination, frozenset(ignore), on_sent)
        else:
            await self.upload_file(source, destination, on_sent=on_sent)

    async def download(self, source: AnyPath, destination: str | os.PathLike[str]) -> None:
        """Copy a file or a tree of the sandbox to this machine, a tree as one tar stream.

        What the sandbox sends is not trusted: names with ``..``, absolute names,
        links that lead out, devices and pipes are refused with `ValueError`, and
        then nothing of the tree is left. So is a tree of more than a million entries or
        `DOWNLOAD_LIMIT` bytes; a file of more than these raises `OSError`
        (`errno.EFBIG`).
        """
        info = await self.stat(source)
        if info.kind == "directory":
            await self._download_tree(source, Path(destination))
        elif info.size > DOWNLOAD_LIMIT:
            raise OSError(
                errno.EFBIG,
                f"File has {info.size} bytes, and a download is limited to {DOWNLOAD_LIMIT}",
                str(source),
            )
        else:
            await self._download_one(source, info, destination)

    @abstractmethod
    async def _upload_tree(
        self,
        source: Path,
        destination: AnyPath,
        ignore: frozenset[str],
        on_sent: SentCallback | None,
    ) -> None:
        """For `upload`."""

    @abstractmethod
    async def _download_tree(self, source: AnyPath, destination: Path) -> None:
        """For `download`."""

    async def _download_one(
        self, source: AnyPath, info: FileInfo, destination: str | os.PathLike[str]
    ) -> None:
        """`download_file` of what is known already."""
        await self.download_file(source, destination)
