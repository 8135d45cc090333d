"""The files of a guest's sandbox: one round trip for what is small, a stream for the rest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from paddock._file_watching import WATCHED_MAX
from paddock.backends.guest.answers import (
    file_change,
    file_info,
    glob_result,
    grep_result,
    size_of,
    text_lines,
)
from paddock.backends.guest.inside import wire
from paddock.backends.transfer import (
    LocalFile,
    LocalTree,
    extract_stream,
    new_mark,
    receive_file,
    streamed_write,
)
from paddock.errors import Unsupported
from paddock.files import (
    READ_LIMIT,
    SEARCH_LIMIT,
    SKIPPED,
    FileInfo,
    FileSystem,
    GlobResult,
    GrepQuery,
    GrepResult,
    TextLines,
    too_large,
)
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path, PurePosixPath

    from paddock.backends.guest.client import GuestClient
    from paddock.backends.guest.process import GuestProcess
    from paddock.files import FileChange, FileWriter
    from paddock.sandbox import ExecResult, Sandbox
    from paddock.transfers import Transfer, TransferCallback, Tree

__all__ = ["GuestFileSystem", "in_one_piece", "packing"]

T = TypeVar("T")

VIOLATION_MAX = 300
"""Characters of an error about an answer, which may quote all of it."""


class GuestFileSystem(FileSystem):
    skipped: ClassVar[frozenset[str]] = SKIPPED
    """Directories that searches do not enter."""

    def __init__(self, sandbox: Sandbox, client: GuestClient, user: str | None = None) -> None:
        super().__init__(sandbox)
        self._sandbox = sandbox
        self._client = client
        self._user = user
        """Whose rights calls have, if not those of commands."""

    # one request each

    async def _read_bytes(self, path: PurePosixPath, *, offset: int, limit: int | None) -> bytes:
        most = READ_LIMIT + 1 if limit is None else limit  # one more tells that there is more
        pieces: list[bytes] = []
        got = 0
        while True:
            room = min(most - got, wire.INLINE)
            body, data = await self._ask(
                "read", path=str(path), offset=offset + got, limit=room, reply_bytes=room
            )
            size = self._checked(size_of, body)
            pieces.append(data)
            got += len(data)
            if limit is None and max(got, size - offset) > READ_LIMIT:
                raise too_large(str(path), max(offset + got, size))
            if not data or got >= most or (len(data) < room and offset + got >= size):
                break
        return b"".join(pieces)[:most]  # a guest that was taken over may send more

    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        where = str(path)
        condition: dict[str, Any] = {"exclusive": exclusive}
        if expect is not None:
            condition["expect"] = hashlib.sha256(expect).hexdigest()
        if len(data) <= wire.INLINE:
            await self._ask("write", data, path=where, **condition)
        else:
            await self._receive(where, in_one_piece(data), size=len(data), **condition)

    async def _append(self, path: PurePosixPath, data: bytes) -> None:
        if len(data) <= wire.INLINE:
            await self._ask("append", data, path=str(path))
        else:
            await self._receive(str(path), in_one_piece(data), size=len(data), append=True)

    async def _stat(self, path: PurePosixPath, *, follow: bool) -> FileInfo:
        body, _ = await self._ask("stat", path=str(path), follow=follow)
        return self._checked(file_info, body.get("entry"))

    async def _mkdir(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        await self._ask("mkdir", path=str(path), parents=parents, exist_ok=exist_ok)

    async def _remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        if recursive:
            await self._job("remove", path=str(path))
        else:
            await self._ask("remove", path=str(path))

    async def _move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._ask("move", path=str(source), to=str(destination))

    async def _chown(self, path: PurePosixPath, user: str | None, group: str | None) -> None:
        await self._ask("chown", path=str(path), owner=user, group=group)

    async def _chmod(self, path: PurePosixPath, mode: int) -> None:
        await self._ask("chmod", path=str(path), mode=mode)

    # one job each

    async def _copy(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._job("copy", path=str(source), to=str(destination))

    async def _read_lines(
        self, path: PurePosixPath, *, start: int, limit: int, width: int
    ) -> TextLines:
        found = await self._job(
            "lines", path=str(path), start=start, limit=limit, width=width, most=SEARCH_LIMIT
        )
        return self._checked(text_lines, found)

    async def _list(
        self, path: PurePosixPath, *, depth: int, hidden: bool, limit: int | None
    ) -> list[FileInfo]:
        found = await self._job(
            "list",
            path=str(path),
            depth=depth,
            hidden=hidden,
            limit=limit,
            skipped=sorted(self.skipped),
        )
        return self._checked(lambda entries: [file_info(entry) for entry in entries], found)

    async def _glob(self, pattern: str, path: PurePosixPath, *, limit: int | None) -> GlobResult:
        found = await self._job(
            "glob", pattern=pattern, path=str(path), limit=limit, skipped=sorted(self.skipped)
        )
        return self._checked(lambda answer: glob_result(answer, path), found)

    async def _grep(self, query: GrepQuery) -> GrepResult:
        found = await self._job(
            "grep",
            pattern=query.pattern,
            path=str(query.path),
            glob=query.glob,
            ignore_case=query.ignore_case,
            context=query.context,
            limit=query.limit,
            most=SEARCH_LIMIT,
            skipped=sorted(self.skipped),
            search_path=self._sandbox.env.get("PATH"),
        )
        return self._checked(grep_result, found)

    async def _ask(
        self, operation: str, blob: bytes = b"", /, *, reply_bytes: int = 0, **arguments: Any
    ) -> tuple[dict[str, Any], bytes]:
        """Make a request; with another user's rights it is a job, which can have them."""
        if self._user is None:
            return await self._client.request(operation, blob, reply_bytes=reply_bytes, **arguments)
        job = self._start_job(
            "call", stdin=True, streamed=False, op=operation, size=len(blob), **arguments
        )
        answer = await self._send_all(job, in_one_piece(blob))
        body, data = self._checked(wire.parse_message, answer.stdout_bytes)
        return body, self._checked(lambda data: _at_most(reply_bytes, data), data)

    def _start_job(self, name: str, /, **arguments: Any) -> GuestProcess:
        return self._client.job(name, user=self._user, **arguments)

    def _as_user(self, user: str) -> GuestFileSystem:
        if Capability.USER not in self._sandbox.capabilities:
            raise Unsupported("as_user()", backend=self._sandbox.backend)
        return GuestFileSystem(self._sandbox, self._client, user)

    async def _job(self, name: str, /, **arguments: Any) -> Sequence[Any]:
        """Run a job to its end; its answer is JSON, a value a line."""
        process = self._start_job(name, streamed=False, **arguments)
        try:
            result = await process.wait()
        except BaseException:
            await process.aclose()
            raise
        _check_ended(result.exit_code, name)
        if result.out.dropped:
            raise OSError(errno.EFBIG, f"{name} found more than can be sent; narrow it down")
        lines = result.stdout_bytes.splitlines()
        return self._checked(lambda answer: [json.loads(line) for line in answer], lines)

    def _checked(self, parse: Callable[[Any], T], answer: Any) -> T:
        """Return `parse(answer)`. A guest whose answer makes no sense is given up."""
        try:
            return parse(answer)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            self._client.channels.on_violation(f"an answer about files: {error!r}"[:VIOLATION_MAX])
            raise self._client.link.error() from None

    # streams

    def _open_archive(self, path: PurePosixPath) -> AsyncGenerator[bytes]:
        return self._stream("pack", path=str(path), ignore=(), gitignore=False)

    async def _watch(
        self, path: PurePosixPath, interval: float
    ) -> AsyncGenerator[FileChange | None]:
        rest = b""
        told = self._stream("watch", path=str(path), most=WATCHED_MAX)
        async with contextlib.aclosing(told):
            async for data in told:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield self._checked(file_change, line)
                if len(rest) > LINE_MAX:
                    self._checked(file_change, rest)

    def _open_read(self, path: PurePosixPath, *, offset: int) -> AsyncGenerator[bytes]:
        return self._stream("send", path=str(path), offset=offset)

    def _open_write(
        self, path: PurePosixPath, *, append: bool, exclusive: bool
    ) -> AbstractAsyncContextManager[FileWriter]:
        mark = new_mark()
        job = self._start_job(
            "receive",
            stdin=True,
            path=str(path),
            append=append,
            exclusive=exclusive,
            mark=mark,
        )
        return streamed_write(job, mark, lambda result: _check_ended(result.exit_code, "the write"))

    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        async with LocalFile.open(source) as file:
            pieces = file.pieces(on_progress)
            await self._receive(str(destination), pieces, size=file.size, mode=file.mode)
            return file.transfer

    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        contents = self._stream("send", path=str(source))
        return await receive_file(contents, destination, on_progress)

    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        local = await LocalTree.open(source, destination, tree)
        job = self._start_job("unpack", stdin=True, path=str(destination))
        await self._send_all(job, local.blocks())
        return local.transfer()

    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        packed = self._stream("pack", **packing(source, tree))
        return await extract_stream(packed, destination, source, tree)

    async def _receive(self, path: str, pieces: AsyncGenerator[bytes], **arguments: Any) -> None:
        await self._send_all(self._start_job("receive", stdin=True, path=path, **arguments), pieces)

    async def _send_all(self, job: GuestProcess, pieces: AsyncGenerator[bytes]) -> ExecResult:
        """Feed a job to the end of `pieces`; what it says is wrong comes before a broken pipe."""
        async with job, contextlib.aclosing(pieces):
            try:
                async for piece in pieces:
                    await job.send(piece)
                await job.send_eof()
            except BrokenPipeError:
                pass
            result = await job.wait()
            _check_ended(result.exit_code, "the upload")
            return result

    async def _stream(self, name: str, /, **arguments: Any) -> AsyncGenerator[bytes]:
        async with self._start_job(name, **arguments) as job:
            async for stream, data in job.output():
                if stream == "stdout":
                    yield data
            _check_ended((await job.wait()).exit_code, "the download")


def packing(path: PurePosixPath, tree: Tree) -> dict[str, Any]:
    """The arguments of the job that packs a tree."""
    return {"path": str(path), "ignore": tree.ignore, "gitignore": tree.gitignore}


def _check_ended(exit_code: int, what: str) -> None:
    if exit_code != 0:
        raise OSError(errno.EIO, f"{what} was ended early (exit {exit_code})")


LINE_MAX = 64 * 1024
"""Bytes of one change: a path has 4096, each written with six characters at most."""


# ------------------------------------------------------- answers, which are unchecked


def _at_most(size: int, data: bytes) -> bytes:
    if len(data) > size:
        raise ValueError(f"{len(data)} bytes answer a request for {size}")
    return data


async def in_one_piece(data: bytes) -> AsyncGenerator[bytes]:
    yield data
