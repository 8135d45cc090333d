"""What calls of a sandbox's files return, and the limits they have; knows no sandbox.

`paddock.files` gives these names out.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, Self

from paddock._arguments import check_bytes, check_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = [
    "DOWNLOAD_LIMIT",
    "MODE_MAX",
    "READ_LIMIT",
    "SEARCH_LIMIT",
    "AnyPath",
    "FileChange",
    "FileInfo",
    "FileReader",
    "FileWriter",
    "GlobResult",
    "GrepLine",
    "GrepQuery",
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

MODE_MAX = 0o7777


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One entry. `size` in bytes, `modified` in seconds since 1970, `mode` the permission bits.

    `uid` and `gid` are the numbers of its owner and group.
    """

    path: PurePosixPath
    kind: Literal["file", "directory", "symlink", "other"]
    size: int
    mode: int
    modified: float
    uid: int
    gid: int

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A change of one path (absolute) from `FileSystem.watch`: created, changed or removed."""

    kind: Literal["created", "changed", "removed"]
    path: PurePosixPath


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
class GrepQuery:
    """The checked arguments of `FileSystem.grep`."""

    pattern: str
    path: PurePosixPath
    glob: str | None
    ignore_case: bool
    context: int
    limit: int


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


class FileReader:
    """A file that is being read: an iterator of pieces, each of some size above 0."""

    def __init__(self, first: bytes, pieces: AsyncIterator[bytes]) -> None:
        self._left = first
        self._pieces = pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        found, self._left = self._left or await anext(self._pieces), b""
        return found

    async def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the file."""
        check_whole("size", size)
        found: list[bytes] = []
        while size and (piece := await anext(self, b"")):
            found.append(piece[:size])
            self._left = piece[size:]
            size -= len(found[-1])
        return b"".join(found)


class FileWriter:
    """A file that is being written."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Add `data`; return when the sandbox has taken it, or nearly.

        Raises the error of a file that can no longer be written, and `ValueError` after the
        end of the block.
        """
        if self._closed:
            raise ValueError("write to a file that is closed")
        await self._send(check_bytes("data", data))

    def close(self) -> None:
        """Take no more data. For backends; the end of the block closes a file."""
        self._closed = True
