"""The files of a sandbox in Daytona: small things in the guest's own words, large ones by the
service's streams, which carry more than a guest that is spoken with by requests.

A large file or tree is put beside its place first and taken from there by the guest, so what
the contract says of uploads and downloads holds: they are whole or not at all, and no link
leads out.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.backends.daytona.service import REFUSED, ServiceError
from paddock.backends.guest.files import GuestFileSystem, in_one_piece
from paddock.backends.transfer import LocalFile, extract_stream, receive_file, tree_blocks
from paddock.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from pathlib import Path, PurePosixPath

    from paddock.backends.daytona.request_channel import RequestChannel
    from paddock.backends.daytona.service import Service
    from paddock.backends.guest.client import GuestClient
    from paddock.files import FileInfo, SentCallback
    from paddock.sandbox import Sandbox

__all__ = ["DaytonaFileSystem"]

SMALL = 256 * 1024
"""Bytes up to which one request that carries them is quicker than a stream and a request."""
TRANSFER_DEADLINE = 1800
"""Seconds for one file or tree, as the SDK has it."""


class DaytonaFileSystem(GuestFileSystem):
    def __init__(
        self,
        sandbox: Sandbox,
        client: GuestClient,
        *,
        service: Service,
        requests: RequestChannel,
        native: Any,
        folder: str,
    ) -> None:
        super().__init__(sandbox, client)
        self._service = service
        self._requests = requests
        self._native = native
        self._folder = folder
        """Where things lie between a stream and the guest."""

    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_sent: SentCallback | None
    ) -> None:
        where = str(destination)
        async with LocalFile.open(source) as file:
            size, mode = file.size, file.mode
            if size <= SMALL:
                data = b"".join([piece async for piece in file.pieces()])
                await self._receive(where, in_one_piece(data), size=size, mode=mode)
                return

        async def pieces() -> AsyncGenerator[bytes]:
            async with LocalFile.open(source) as file:
                async for piece in file.pieces(on_sent):
                    yield piece

        await self._put(pieces, "receive", path=where, size=size, mode=mode)

    async def _download_file(self, source: PurePosixPath, destination: Path) -> None:
        await self._download_one(source, await self._stat(source), destination)

    async def _upload_tree(
        self,
        source: Path,
        destination: PurePosixPath,
        ignore: frozenset[str],
        on_sent: SentCallback | None,
    ) -> None:
        where = str(destination)
        data = await _if_small(tree_blocks(source, ignore))
        if data is None:
            await self._put(lambda: tree_blocks(source, ignore, on_sent), "unpack", path=where)
        else:
            job = self._client.job("unpack", stdin=True, path=where)
            await self._send_all(job, in_one_piece(data))

    async def _download_tree(self, source: PurePosixPath, destination: Path) -> None:
        if not await self._get(destination, extract_stream, "pack", path=str(source), ignore=[]):
            await super()._download_tree(source, destination)

    async def _download_one(self, source: PurePosixPath, info: FileInfo, destination: Path) -> None:
        if info.kind == "file" and info.size <= SMALL:
            data = await self._read_bytes(source, offset=0, limit=None)
            await receive_file(in_one_piece(data), destination)
            return
        if info.kind == "file" and await self._get(
            destination, receive_file, "send", path=str(source)
        ):
            return
        await super()._download_file(source, destination)

    async def _put(
        self, pieces: Callable[[], AsyncGenerator[bytes]], job: str, **arguments: Any
    ) -> None:
        """Stream `pieces` to a place of ours, and let a job of the guest take them from there."""
        between = f"{self._folder}/{secrets.token_hex(8)}"
        failures: list[OSError] = []

        async def stream() -> None:
            async with contextlib.aclosing(_noting(failures, pieces())) as source:
                await self._native.fs.upload_file_stream(source, between, TRANSFER_DEADLINE)

        try:
            await self._carry("uploading", stream)
            await self._job(job, source=between, **arguments)
        except ServiceError:
            await finish(self._discard(between))
            if failures:  # the SDK's own word for them says less
                raise failures[0] from None
            raise
        except BaseException:
            await finish(self._discard(between))
            raise

    async def _get(
        self,
        destination: Path,
        take: Callable[[AsyncIterator[bytes], Path], Awaitable[None]],
        job: str,
        **arguments: Any,
    ) -> bool:
        """Let a job of the guest put what is wanted at a place of ours; stream it from there.

        False if not all of it arrived, as when it holds what ends a stream of the service.
        """
        between = f"{self._folder}/{secrets.token_hex(8)}"

        async def stream() -> None:
            pieces = await self._native.fs.download_file_stream(between, TRANSFER_DEADLINE)
            async with contextlib.aclosing(pieces) as source:
                await take(_whole(source, size), destination)

        try:
            (size,) = await self._job(job, target=between, **arguments)
            await self._carry("downloading", stream)
        except _CutShort:
            return False
        finally:
            await finish(self._discard(between))
        return True

    async def _carry(self, what: str, stream: Callable[[], Awaitable[None]]) -> None:
        """Over the service's stream. What it refuses it is asked once more, of where the
        sandbox is by then; it is too much to be asked for long."""
        look = self._requests.raise_if_gone
        try:
            await self._service.call(what, stream, before_again=look)
        except ServiceError as error:
            if error.status not in REFUSED:
                raise
            await look()
            await self._service.call(what, stream, before_again=look)

    async def _discard(self, between: str) -> None:
        """Remove what may be there; a sandbox that is lost has lost it too."""
        with contextlib.suppress(OSError, SandboxError):
            await self._client.request("remove", path=between)


class _CutShort(Exception):
    """A stream had fewer bytes than it should have."""


async def _whole(pieces: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes]:
    """The same pieces; raises `_CutShort` instead of an end before `size` bytes."""
    async for piece in pieces:
        size -= len(piece)
        yield piece
    if size:
        raise _CutShort


async def _noting(failures: list[OSError], pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same pieces; an error of this machine's files is kept."""
    async with contextlib.aclosing(pieces):
        try:
            async for piece in pieces:
                yield piece
        except OSError as error:
            failures.append(error)
            raise


async def _if_small(blocks: AsyncGenerator[bytes]) -> bytes | None:
    """All of them, or None if they are many; reads no more than it takes to know."""
    found = bytearray()
    async with contextlib.aclosing(blocks):
        async for block in blocks:
            found += block
            if len(found) > SMALL:
                return None
    return bytes(found)
