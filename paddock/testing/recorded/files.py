"""The files of a sandbox that is recorded or replayed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.inside.ignored import IgnoreRules
from paddock.backends.transfer import LocalFile, LocalTree, extract_stream, receive_file
from paddock.files import FileSystem, FileWriter
from paddock.testing._pieces import joined, pieces
from paddock.testing.recorded.archives import manifest, redacted_archive
from paddock.testing.recorded.codec import digested
from paddock.transfers import Transfer, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import PurePosixPath

    from paddock.filetypes import FileInfo, GlobResult, GrepQuery, GrepResult, TextLines
    from paddock.testing.recorded.backend import RecordedSandbox
    from paddock.transfers import TransferCallback

    Ask = Callable[[FileSystem], Awaitable[Any]]

__all__ = ["RecordedFileSystem"]


class RecordedFileSystem(FileSystem):
    """Each method is one call of the recording, except the pieces of a file that is written."""

    def __init__(self, sandbox: RecordedSandbox, user: str | None = None) -> None:
        super().__init__(sandbox)
        self._sandbox = sandbox
        self._user = user

    async def _call(
        self,
        name: str,
        ask: Ask,
        kept: Callable[[Any], Any] = lambda found: found,
        /,
        **args: Any,
    ) -> Any:
        if self._user is not None:
            args["user"] = self._user
        return await self._sandbox.call(
            f"fs.{name}", args, lambda real: ask(self._of(real.fs)), kept
        )

    def _digested(self, data: bytes) -> Any:
        return digested(self._sandbox.redactor.data(data))

    def _without_secrets(self, archive: bytes) -> bytes:
        return redacted_archive(archive, self._sandbox.redactor)

    def _of(self, files: FileSystem) -> FileSystem:
        return files if self._user is None else files.as_user(self._user)

    def _as_user(self, user: str) -> FileSystem:
        return RecordedFileSystem(self._sandbox, user)

    async def _read_bytes(self, path: PurePosixPath, *, offset: int, limit: int | None) -> bytes:
        args: dict[str, Any] = {"offset": offset, "limit": limit}
        found: bytes = await self._call(
            "read_bytes", lambda fs: fs.read_bytes(path, **args), path=path, **args
        )
        return found

    async def _read_lines(
        self, path: PurePosixPath, *, start: int, limit: int, width: int
    ) -> TextLines:
        args = {"start": start, "limit": limit, "width": width}
        found: TextLines = await self._call(
            "read_lines", lambda fs: fs.read_lines(path, **args), path=path, **args
        )
        return found

    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        await self._call(
            "write_bytes",
            lambda fs: fs.write_bytes(path, data, exclusive=exclusive, expect=expect),
            path=path,
            data=self._digested(data),
            exclusive=exclusive,
            expect=None if expect is None else self._digested(expect),
        )

    async def _append(self, path: PurePosixPath, data: bytes) -> None:
        await self._call(
            "append", lambda fs: fs.append(path, data), path=path, data=self._digested(data)
        )

    async def _open_read(self, path: PurePosixPath, *, offset: int) -> AsyncGenerator[bytes]:
        async def ask(fs: FileSystem) -> bytes:
            async with fs.open_read(path, offset=offset) as file:
                return b"".join([piece async for piece in file])

        async for piece in pieces(await self._call("open_read", ask, path=path, offset=offset)):
            yield piece

    async def _open_archive(self, path: PurePosixPath) -> AsyncGenerator[bytes]:
        async def ask(fs: FileSystem) -> bytes:
            async with fs.open_archive(path) as archive:
                return b"".join([piece async for piece in archive])

        data: bytes = await self._call("open_archive", ask, self._without_secrets, path=path)
        yield data

    @contextlib.asynccontextmanager
    async def _open_write(
        self, path: PurePosixPath, *, append: bool, exclusive: bool
    ) -> AsyncGenerator[FileWriter]:
        opened = contextlib.AsyncExitStack()
        real: list[FileWriter] = []
        written = bytearray()

        async def enter(fs: FileSystem) -> None:
            writing = fs.open_write(path, append=append, exclusive=exclusive)
            real.append(await opened.enter_async_context(writing))

        async def send(data: bytes) -> None:
            written.extend(data)
            for file in real:
                await file.write(data)

        async def leave(fs: FileSystem) -> None:
            await opened.aclose()

        flags = {"append": append, "exclusive": exclusive}
        await self._call("open_write", enter, path=path, **flags)
        async with opened:
            writer = FileWriter(send)
            yield writer
            writer.close()
            await self._call("written", leave, path=path, data=self._digested(bytes(written)))

    async def _copy(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._call(
            "copy", lambda fs: fs.copy(source, destination), source=source, destination=destination
        )

    async def _chown(self, path: PurePosixPath, user: str | None, group: str | None) -> None:
        await self._call(
            "chown", lambda fs: fs.chown(path, user, group), path=path, owner=user, group=group
        )

    async def _chmod(self, path: PurePosixPath, mode: int) -> None:
        await self._call("chmod", lambda fs: fs.chmod(path, mode), path=path, mode=mode)

    async def _list(
        self, path: PurePosixPath, *, depth: int, hidden: bool, limit: int | None
    ) -> Sequence[FileInfo]:
        args: dict[str, Any] = {"depth": depth, "hidden": hidden, "limit": limit}
        found: Sequence[FileInfo] = await self._call(
            "list", lambda fs: fs.list(path, **args), path=path, **args
        )
        return found

    async def _stat(self, path: PurePosixPath, *, follow: bool) -> FileInfo:
        found: FileInfo = await self._call(
            "stat",
            lambda fs: fs.stat(path) if follow else fs.lstat(path),
            path=path,
            follow=follow,
        )
        return found

    async def _mkdir(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        args = {"parents": parents, "exist_ok": exist_ok}
        await self._call("mkdir", lambda fs: fs.mkdir(path, **args), path=path, **args)

    async def _remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        await self._call(
            "remove",
            lambda fs: fs.remove(path, recursive=recursive),
            path=path,
            recursive=recursive,
        )

    async def _move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._call(
            "move", lambda fs: fs.move(source, destination), source=source, destination=destination
        )

    async def _glob(self, pattern: str, path: PurePosixPath, *, limit: int | None) -> GlobResult:
        found: GlobResult = await self._call(
            "glob",
            lambda fs: fs.glob(pattern, path, limit=limit),
            pattern=pattern,
            path=path,
            limit=limit,
        )
        return found

    async def _grep(self, query: GrepQuery) -> GrepResult:
        args = {each.name: getattr(query, each.name) for each in fields(query)}
        found: GrepResult = await self._call("grep", lambda fs: fs.grep(**args), **args)
        return found

    # transfers: an upload is identified by its digest, a download is kept

    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        async with LocalFile.open(source) as file:
            data = await joined(file.pieces())
            mode = file.mode
        found: Transfer = await self._call(
            "upload_file",
            lambda fs: fs.upload_file(source, destination, on_progress=on_progress),
            destination=destination,
            data=self._digested(data),
            mode=mode,
        )
        return found

    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        local = await LocalTree.open(source, destination, replace(tree, on_progress=None))
        data = await joined(local.blocks())
        found: Transfer = await self._call(
            "upload",
            lambda fs: fs.upload(source, destination, **_options(tree)),
            destination=destination,
            files=await asyncio.to_thread(manifest, self._without_secrets(data)),
        )
        return found

    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        async def ask(fs: FileSystem) -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                here = Path(folder) / "file"
                await fs.download_file(source, here)
                return await asyncio.to_thread(here.read_bytes)

        data: bytes = await self._call("download_file", ask, source=source)
        return await receive_file(pieces(data), destination, on_progress, len(data))

    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        async def ask(fs: FileSystem) -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                got = await fs.download(source, folder, **_options(tree))
                local = await LocalTree.open(Path(folder), source, Tree())
                data = await joined(local.blocks())
            return {"transfer": got, "tar": data}

        def kept(found: dict[str, Any]) -> dict[str, Any]:
            tar = base64.b64encode(self._without_secrets(found["tar"]))
            return {**found, "tar": {"$base64": tar.decode()}}

        args = {"ignore": list(tree.ignore), "gitignore": tree.gitignore, "links": tree.links}
        found = await self._call("download", ask, kept, source=source, **args)
        stream = pieces(found["tar"])
        await extract_stream(
            stream, destination, source, replace(tree, on_progress=None), IgnoreRules()
        )
        transfer: Transfer = found["transfer"]
        return transfer


def _options(tree: Tree) -> dict[str, Any]:
    return {
        "ignore": tree.ignore,
        "gitignore": tree.gitignore,
        "links": tree.links,
        "on_progress": tree.on_progress,
    }
