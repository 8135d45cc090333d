"""Trees and files of this machine, to and from a stream of pieces.

The disk is touched in threads; what arrives is never trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.backends.guest.inside import archive
from paddock.backends.guest.inside.files import Replacement, open_regular, write_all
from paddock.files import DOWNLOAD_LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from paddock.files import SentCallback

__all__ = ["LocalFile", "extract_stream", "receive_file", "tree_blocks"]

PIECE = 1024 * 1024
"""Bytes that are collected before a thread is asked to write them."""


async def tree_blocks(
    root: Path, ignore: frozenset[str], on_sent: SentCallback | None = None
) -> AsyncGenerator[bytes]:
    """The tree below `root` as pieces of a tar stream; `on_sent` hears when each was taken."""
    blocks = archive.tar_blocks(os.fspath(root), ignore)
    sent = 0
    try:
        while (block := await finish(asyncio.to_thread(next, blocks, None))) is not None:
            yield block
            sent += len(block)
            if on_sent is not None:
                on_sent(sent, None)
    finally:
        blocks.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A regular file of this machine, open for reading; `size` in bytes."""

    size: int
    mode: int
    _file: io.FileIO

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, path: str | os.PathLike[str]) -> AsyncIterator[LocalFile]:
        """Open it; raises `OSError` for what is no regular file."""
        file = await acquire(asyncio.to_thread(_open_regular, path), _closed)
        try:
            info = os.fstat(file.fileno())
            yield cls(size=info.st_size, mode=stat.S_IMODE(info.st_mode) & 0o777, _file=file)
        finally:
            file.close()

    async def pieces(self, on_sent: SentCallback | None = None) -> AsyncGenerator[bytes]:
        """Its first `size` bytes, or fewer if it has become shorter; `on_sent` as above."""
        left = self.size
        while piece := await finish(asyncio.to_thread(self._file.read, min(left, PIECE))):
            yield piece
            left -= len(piece)
            if on_sent is not None:
                on_sent(self.size - left, self.size)


def _open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    return io.FileIO(open_regular(os.fspath(path)), "rb")


async def _closed(file: io.FileIO) -> None:
    file.close()


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces that are worth a thread's while."""
    pending: list[bytes] = []
    size = 0
    async for piece in pieces:
        pending.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(pending)
            pending.clear()
            size = 0
    if pending:
        yield b"".join(pending)


async def receive_file(pieces: AsyncIterator[bytes], destination: Path) -> None:
    """Write a file atomically; on an error or cancellation what was there stays.

    A link at `destination` is replaced and not followed: who can write there put it there.
    """
    if await asyncio.to_thread(destination.is_dir):
        raise IsADirectoryError(f"{destination} is a directory; give the file's name too")
    replacing = asyncio.to_thread(Replacement, os.fspath(destination), follow=False)
    writer = await acquire(replacing, _closed_in_thread)
    try:
        async for piece in _gathered(pieces):
            if writer.size + len(piece) > DOWNLOAD_LIMIT:
                raise OSError(
                    errno.EFBIG, f"More than {DOWNLOAD_LIMIT} bytes came", str(destination)
                )
            await finish(asyncio.to_thread(writer.write, piece))
        await finish(asyncio.to_thread(writer.commit))
    finally:
        await finish(_closed_in_thread(writer))


async def _closed_in_thread(writer: Replacement) -> None:
    await asyncio.to_thread(writer.close)


async def extract_stream(pieces: AsyncIterator[bytes], destination: Path) -> None:
    """Extract a tar stream below `destination`: all of it, or on an error nothing."""
    reader, writer = os.pipe()
    extraction = asyncio.create_task(asyncio.to_thread(_extract, reader, destination))
    try:
        try:
            async for piece in _gathered(pieces):
                # To its end: a thread that still writes must not find another file there.
                await finish(asyncio.to_thread(write_all, writer, piece))
        except BrokenPipeError:
            pass  # the extraction stopped; it says why
        finally:
            os.close(writer)
    except BaseException:
        # The stream ended early, at which the extraction removes what it has made.
        with contextlib.suppress(ValueError, OSError):
            await finish(_ended(extraction))
        raise
    await finish(_ended(extraction))


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def _extract(reader: int, destination: Path) -> None:
    with open(reader, "rb", buffering=0) as stream:
        archive.extract(stream, os.fspath(destination))
