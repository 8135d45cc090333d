"""Trees and files of this machine, to and from a stream of pieces.

The disk is touched in threads; what arrives is never trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.backends.guest.inside import archive
from paddock.backends.guest.inside.extraction import extract
from paddock.backends.guest.inside.files import open_regular, write_all
from paddock.backends.guest.inside.ignored import IgnoreRules
from paddock.backends.guest.inside.selection import PATH_MAX, Selection
from paddock.backends.guest.inside.writing import Replacement
from paddock.files import DOWNLOAD_LIMIT, FileWriter
from paddock.transfers import LeftOut, Transfer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from paddock.process import ExecResult, Process
    from paddock.transfers import TransferCallback, Tree

__all__ = [
    "LocalFile",
    "LocalTree",
    "extract_stream",
    "new_mark",
    "receive_file",
    "streamed_write",
]

PIECE = 1024 * 1024
"""Bytes that are collected before a thread is asked to write them."""


class LocalTree:
    """A tree of this machine on its way into a sandbox, where it gets the path `destination`."""

    def __init__(self, root: Path, destination: PurePosixPath, tree: Tree) -> None:
        self._root = os.fspath(root)
        self._room = PATH_MAX - len(os.fsencode(str(destination))) - 1
        self._tree = tree
        self._selection = self._select()

    @classmethod
    async def open(cls, root: Path, destination: PurePosixPath, tree: Tree) -> LocalTree:
        """Raise `ValueError` if the tree has links, and they are refused."""
        opened = cls(root, destination, tree)
        if tree.links == "refuse":
            await asyncio.to_thread(
                archive.refuse_links, opened._root, _rules(tree), opened._selection
            )
        return opened

    def _select(self) -> Selection:
        return Selection(links=self._tree.links, room=self._room)

    async def blocks(self, names: archive.Names | None = None) -> AsyncGenerator[bytes]:
        """The tree as pieces of a tar stream, in which entries may have other `names`."""
        self._selection = self._select()
        blocks = archive.tar_blocks(self._root, _rules(self._tree), self._selection, names)
        sent, tell = 0, self._tree.on_progress
        try:
            while (block := await finish(asyncio.to_thread(next, blocks, None))) is not None:
                yield block
                sent += len(block)
                if tell is not None:
                    tell(sent, None)
        finally:
            blocks.close()

    def transfer(self) -> Transfer:
        """What `blocks` has carried."""
        return _account(self._selection)


def _rules(tree: Tree) -> IgnoreRules:
    return IgnoreRules(tree.ignore, gitignore=tree.gitignore)


def _account(selection: Selection) -> Transfer:
    return Transfer(
        files=selection.files,
        bytes=selection.bytes,
        left_out=tuple(
            LeftOut(path=PurePosixPath(path), reason=reason) for path, reason in selection.left_out
        ),
        left_out_total=selection.left_out_total,
    )


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

    async def pieces(self, on_progress: TransferCallback | None = None) -> AsyncGenerator[bytes]:
        """Its first `size` bytes, or fewer if it has become shorter."""
        left = self.size
        while piece := await finish(asyncio.to_thread(self._file.read, min(left, PIECE))):
            yield piece
            left -= len(piece)
            if on_progress is not None:
                on_progress(self.size - left, self.size)

    @property
    def transfer(self) -> Transfer:
        return Transfer(files=1, bytes=self.size)


def _open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    return io.FileIO(open_regular(os.fspath(path)), "rb")


async def _closed(file: io.FileIO) -> None:
    file.close()


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
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


def new_mark() -> str:
    """Return what ends a streamed write that is meant to end: none that is cut off has it."""
    return secrets.token_hex(16)


@contextlib.asynccontextmanager
async def streamed_write(
    process: Process, mark: str, check: Callable[[ExecResult], None]
) -> AsyncGenerator[FileWriter]:
    """Write to a file by way of `process`, which puts its stdin there.

    The process prints something once it has opened the file. It changes nothing unless its
    stdin ends with `mark`. `check` raises the error of one that failed.
    """

    async def end() -> None:
        check(await process.wait())

    async def send(data: bytes) -> None:
        try:
            await process.send(data)
        except BrokenPipeError:
            await end()  # which says why
            raise

    async with process:
        if not await _is_open(process):
            await end()
        writer = FileWriter(send)
        yield writer
        writer.close()
        await send(mark.encode())
        await process.send_eof()
        await end()


async def _is_open(process: Process) -> bool:
    """Wait until a process prints something, other than about an error, or ends."""
    async with contextlib.aclosing(process.output()) as output:  # type: ignore[type-var]
        async for stream, _ in output:
            if stream == "stdout":
                return True
    return False


async def _counted(
    pieces: AsyncIterator[bytes], on_progress: TransferCallback | None, total: int | None
) -> AsyncGenerator[bytes]:
    """The same pieces; `on_progress` is called when each was taken."""
    received = 0
    async for piece in pieces:
        yield piece
        received += len(piece)
        if on_progress is not None:
            on_progress(received, total)


@contextlib.asynccontextmanager
async def _taken(
    pieces: AsyncGenerator[bytes], on_progress: TransferCallback | None, total: int | None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The same, gathered and counted. In the end `pieces` is closed, and with it what makes them:
    left to the garbage collector it would run on."""
    async with (
        contextlib.aclosing(pieces),
        contextlib.aclosing(_gathered(pieces)) as gathered,
        contextlib.aclosing(_counted(gathered, on_progress, total)) as counted,
    ):
        yield counted


async def receive_file(
    pieces: AsyncGenerator[bytes],
    destination: Path,
    on_progress: TransferCallback | None = None,
    total: int | None = None,
) -> Transfer:
    """Write a file atomically; on an error or cancellation what was there stays.

    A link at `destination` is replaced and not followed: any writer there may have made it.
    """
    if await asyncio.to_thread(destination.is_dir):
        raise IsADirectoryError(f"{destination} is a directory; give the file's name too")
    replacing = asyncio.to_thread(Replacement, os.fspath(destination), follow=False)
    writer = await acquire(replacing, _closed_in_thread)
    try:
        async with _taken(pieces, on_progress, total) as taken:
            async for piece in taken:
                if writer.size + len(piece) > DOWNLOAD_LIMIT:
                    raise OSError(
                        errno.EFBIG, f"More than {DOWNLOAD_LIMIT} bytes came", str(destination)
                    )
                await finish(asyncio.to_thread(writer.write, piece))
        await finish(asyncio.to_thread(writer.commit))
        return Transfer(files=1, bytes=writer.size)
    finally:
        await finish(_closed_in_thread(writer))


async def _closed_in_thread(writer: Replacement) -> None:
    await asyncio.to_thread(writer.close)


async def extract_stream(
    pieces: AsyncGenerator[bytes],
    destination: Path,
    source: PurePosixPath,
    tree: Tree,
    rules: IgnoreRules | None = None,
) -> Transfer:
    """Extract a tar stream of the tree `source` below `destination`: or on an error nothing.

    `rules` are those of the tree and its .gitignore files, if the stream was made without them.
    """
    selection = Selection(rules or IgnoreRules(tree.ignore), links=tree.links, root=str(source))
    reader, writer = os.pipe()
    extraction = asyncio.create_task(asyncio.to_thread(_extract, reader, destination, selection))
    try:
        try:
            async with _taken(pieces, tree.on_progress, None) as taken:
                async for piece in taken:
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
    return _account(selection)


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def _extract(reader: int, destination: Path, selection: Selection) -> None:
    with open(reader, "rb", buffering=0) as stream:
        extract(stream, os.fspath(destination), selection)
