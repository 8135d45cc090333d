"""The files of a sandbox in Daytona: small things in the guest's own words, large ones by the
service's streams, which carry more than a guest that is spoken with by requests.

A large file or tree is put beside its place first and taken from there by the guest, so what
the contract says of uploads and downloads holds: they are whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.backends.daytona.failures import REFUSED, ServiceError
from paddock.backends.guest.files import GuestFileSystem, in_one_piece, packing
from paddock.backends.transfer import LocalFile, LocalTree, extract_stream, receive_file
from paddock.errors import SandboxError
from paddock.files import SKIPPED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from pathlib import Path, PurePosixPath

    from paddock.backends.daytona.request_channel import RequestChannel
    from paddock.backends.daytona.service import Service
    from paddock.backends.guest.client import GuestClient
    from paddock.files import FileInfo
    from paddock.sandbox import Sandbox
    from paddock.transfers import Transfer, TransferCallback, Tree

__all__ = ["SMALL", "DaytonaFileSystem"]

SMALL = 256 * 1024
"""Bytes up to which one request that carries them is quicker than a stream and a request."""
TRANSFER_DEADLINE = 1800
"""Seconds for one file or tree, as the SDK has it."""


class DaytonaFileSystem(GuestFileSystem):
    skipped = SKIPPED | {".daytona"}
    """The service keeps what is its own in the home directory, FIFOs included."""

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

    async def place(self, data: bytes, shown: str) -> str:
        """Stream `data` to a file of ours; return its path. Errors name what is `shown`."""
        between = self._between()
        await self._stream_to(lambda: in_one_piece(data), between, shown)
        return between

    async def discard(self, between: str) -> None:
        """Remove what may be there; a sandbox that is lost has lost it too."""
        with contextlib.suppress(OSError, SandboxError):
            await self._ask("remove", path=between)

    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        if len(data) <= SMALL:
            await super()._write_bytes(path, data, exclusive=exclusive, expect=expect)
            return
        digest = {} if expect is None else {"expect": hashlib.sha256(expect).hexdigest()}
        await self._put(
            lambda: in_one_piece(data),
            "receive",
            path=str(path),
            size=len(data),
            exclusive=exclusive,
            **digest,
        )

    async def _append(self, path: PurePosixPath, data: bytes) -> None:
        if len(data) <= SMALL:
            await super()._append(path, data)
            return
        size = len(data)
        await self._put(
            lambda: in_one_piece(data), "receive", path=str(path), size=size, append=True
        )

    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        where = str(destination)
        async with LocalFile.open(source) as file:
            size, mode = file.size, file.mode
            if size <= SMALL:
                data = b"".join([piece async for piece in file.pieces(on_progress)])
                await self._receive(where, in_one_piece(data), size=size, mode=mode)
                return file.transfer

        async def pieces() -> AsyncGenerator[bytes]:
            async with LocalFile.open(source) as file:
                async for piece in file.pieces(on_progress):
                    yield piece

        await self._put(pieces, "receive", path=where, size=size, mode=mode)
        return file.transfer

    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        return await self._download_one(
            source, await self._stat(source, follow=True), destination, on_progress
        )

    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        where = str(destination)
        local = await LocalTree.open(source, destination, tree)
        data = await _if_small(local.blocks())
        if data is None:
            await self._put(local.blocks, "unpack", path=where)
        else:
            job = self._start_job("unpack", stdin=True, path=where)
            await self._send_all(job, in_one_piece(data))
        return local.transfer()

    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        async def take(pieces: AsyncGenerator[bytes]) -> Transfer:
            return await extract_stream(pieces, destination, source, tree)

        found = await self._get(take, "pack", **packing(source, tree))
        return found or await super()._download_tree(source, destination, tree)

    async def _download_one(
        self,
        source: PurePosixPath,
        info: FileInfo,
        destination: Path,
        on_progress: TransferCallback | None,
    ) -> Transfer:
        if info.kind == "file" and info.size <= SMALL:
            data = await self._read_bytes(source, offset=0, limit=None)
            return await receive_file(in_one_piece(data), destination, on_progress)

        async def take(pieces: AsyncGenerator[bytes]) -> Transfer:
            return await receive_file(pieces, destination, on_progress)

        if info.kind == "file" and (found := await self._get(take, "send", path=str(source))):
            return found
        return await super()._download_file(source, destination, on_progress)

    async def _put(
        self, pieces: Callable[[], AsyncGenerator[bytes]], job: str, *, path: str, **arguments: Any
    ) -> None:
        """Stream `pieces` to a place of ours, and let a job of the guest take them from there."""
        between = self._between()
        await self._stream_to(pieces, between, path)
        try:
            await self._job(job, source=between, path=path, **arguments)
        except BaseException:
            await finish(self.discard(between))
            raise

    async def _stream_to(
        self, pieces: Callable[[], AsyncGenerator[bytes]], between: str, shown: str
    ) -> None:
        """Stream `pieces` to the place `between`; on an error nothing is there."""
        failures: list[OSError] = []

        async def stream() -> None:
            async with contextlib.aclosing(_noting(failures, pieces())) as source:
                await self._native.fs.upload_file_stream(source, between, TRANSFER_DEADLINE)

        try:
            await self._carry(f"uploading {shown}", stream)
        except ServiceError as error:
            await finish(self.discard(between))
            if failures:  # the SDK's own word for them says less
                raise failures[0] from None
            raise error.about(between, shown) from None
        except BaseException:
            await finish(self.discard(between))
            raise

    def _between(self) -> str:
        return f"{self._folder}/{secrets.token_hex(8)}"

    async def _get(
        self,
        take: Callable[[AsyncGenerator[bytes]], Awaitable[Transfer]],
        job: str,
        **arguments: Any,
    ) -> Transfer | None:
        """Let a job of the guest put what is wanted at a place of ours; stream it from there.

        None if not all of it arrived, as when it holds what ends a stream of the service.
        """
        between = self._between()
        found: list[Transfer] = []

        async def stream() -> None:
            pieces = await self._native.fs.download_file_stream(between, TRANSFER_DEADLINE)
            async with contextlib.aclosing(pieces) as source:
                found.append(await take(_whole(source, size)))

        try:
            (size,) = await self._job(job, target=between, **arguments)
            await self._carry(f"downloading {arguments['path']}", stream)
        except _CutShort:
            return None
        except ServiceError as error:
            raise error.about(between, arguments["path"]) from None
        finally:
            await finish(self.discard(between))
        return found[-1]

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
