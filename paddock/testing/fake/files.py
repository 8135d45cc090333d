"""`Sandbox.fs` over a file system in memory."""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import re
import stat
from typing import TYPE_CHECKING, Literal

from paddock.backends.guest.answers import grep_result, text_lines
from paddock.backends.guest.inside.globs import compiled
from paddock.backends.guest.inside.ignored import GITIGNORE, IgnoreRules
from paddock.backends.guest.inside.jobs import lines_of
from paddock.backends.guest.inside.search import file_hits, limited
from paddock.backends.transfer import LocalFile, LocalTree, extract_stream, receive_file
from paddock.errors import FileChanged, Unsupported
from paddock.files import (
    READ_LIMIT,
    SEARCH_LIMIT,
    SKIPPED,
    FileInfo,
    FileSystem,
    FileWriter,
    GlobResult,
    GrepQuery,
    GrepResult,
    TextLines,
    too_large,
)
from paddock.testing._pieces import joined, pieces
from paddock.testing.fake.archive import packed, unpack
from paddock.testing.fake.faults import Fault
from paddock.testing.fake.tree import File, Folder, Link, Node, Special, fail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path, PurePosixPath

    from paddock.testing.fake.sandbox import FakeSandbox
    from paddock.transfers import Transfer, TransferCallback, Tree

__all__ = ["FakeFileSystem"]

PERMISSIONS = 0o777
"""Bits that a copy keeps."""


class FakeFileSystem(FileSystem):
    """Each call is one step: no other task sees the half of it."""

    def __init__(self, sandbox: FakeSandbox) -> None:
        super().__init__(sandbox)
        self._sandbox = sandbox
        self._faults = sandbox.faults
        self._tree = sandbox.tree

    # one file

    async def _read_bytes(self, path: PurePosixPath, *, offset: int, limit: int | None) -> bytes:
        data = (await self._file(path)).data
        if limit is None and len(data) - offset > READ_LIMIT:
            raise too_large(str(path), len(data))
        return data[offset:] if limit is None else data[offset : offset + limit]

    async def _read_lines(
        self, path: PurePosixPath, *, start: int, limit: int, width: int
    ) -> TextLines:
        order = {"start": start, "limit": limit, "width": width, "most": SEARCH_LIMIT}
        return text_lines([lines_of(io.BytesIO((await self._file(path)).data), order)])

    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        await self._begin()
        if expect is not None and self._tree.file(path).data != expect:
            raise FileChanged(f"{path} is not as expected")
        self._write(path, data, exclusive=exclusive)

    async def _append(self, path: PurePosixPath, data: bytes) -> None:
        await self._begin()
        self._write(path, self._contents(path) + data)

    def _contents(self, path: PurePosixPath) -> bytes:
        try:
            return self._tree.file(path).data
        except FileNotFoundError:
            return b""

    def _write(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool = False, mode: int = 0o644
    ) -> File:
        if self._faults.strikes_file(Fault.DISK_FULL, path):
            fail(errno.ENOSPC, path)
        if self._faults.strikes_file(Fault.WRITE_TORN, path):
            data = data[: max(0, len(data) - 1)]
        return self._tree.write(path, data, exclusive=exclusive, mode=mode)

    async def _open_read(self, path: PurePosixPath, *, offset: int) -> AsyncGenerator[bytes]:
        async for piece in pieces((await self._file(path)).data[offset:]):
            yield piece

    async def _open_archive(self, path: PurePosixPath) -> AsyncGenerator[bytes]:
        await self._begin()
        yield packed(self._tree.folder(path))

    @contextlib.asynccontextmanager
    async def _open_write(
        self, path: PurePosixPath, *, append: bool, exclusive: bool
    ) -> AsyncGenerator[FileWriter]:
        await self._begin()
        before = self._probe(path, exclusive=exclusive)
        written = bytearray(before if append else b"")

        async def send(data: bytes) -> None:
            await self._begin()
            written.extend(data)
            if self._faults.strikes_file(Fault.WRITE_TORN, path):
                self._tree.write(path, bytes(written))

        writer = FileWriter(send)
        yield writer
        writer.close()
        self._write(path, bytes(written), exclusive=exclusive)

    def _probe(self, path: PurePosixPath, *, exclusive: bool) -> bytes:
        """Return what is in a file that is to be written; raise what writing it would raise."""
        try:
            found = self._tree.find(path, follow=not exclusive)
        except FileNotFoundError:
            self._tree.make_parents(path)
            self._tree.place(path)
            return b""
        if exclusive:
            fail(errno.EEXIST, path)
        if isinstance(found, Folder):
            fail(errno.EISDIR, path)
        return self._tree.file(path).data

    async def _copy(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._begin()
        found = self._tree.find(source)
        if not isinstance(found, Folder):
            file = self._tree.file(source)
            with contextlib.suppress(FileNotFoundError):
                if self._tree.find(destination) is file:
                    fail(errno.EINVAL, destination)
            self._write(destination, file.data, mode=file.mode & PERMISSIONS)
            return
        with contextlib.suppress(FileNotFoundError):
            self._tree.find(destination, follow=False)
            fail(errno.EEXIST, destination)
        if self._tree.real(destination).is_relative_to(self._tree.real(source)):
            fail(errno.EINVAL, destination)
        copied = _copied(found, source)
        self._tree.make_parents(destination)
        folder, name = self._tree.place(destination, follow=False)
        folder.entries[name] = copied

    async def _chown(self, path: PurePosixPath, user: str | None, group: str | None) -> None:
        raise Unsupported("chown()", backend=self._sandbox.backend)

    def _as_user(self, user: str) -> FileSystem:
        raise Unsupported("as_user()", backend=self._sandbox.backend)

    async def _chmod(self, path: PurePosixPath, mode: int) -> None:
        await self._begin()
        if not self._faults.strikes_file(Fault.MODE_LOST, path):
            self._tree.find(path).mode = mode

    # names

    async def _list(
        self, path: PurePosixPath, *, depth: int, hidden: bool, limit: int | None
    ) -> Sequence[FileInfo]:
        await self._begin()
        found = [
            _info(at, node)
            for at, node in self._entries(path, depth, skipped=SKIPPED if depth > 1 else ())
            if hidden or not any(name.startswith(".") for name in at.relative_to(path).parts)
        ]
        return sorted(found, key=lambda info: info.path.parts)[:limit]

    def _entries(
        self, path: PurePosixPath, depth: int, *, skipped: Sequence[str] | frozenset[str]
    ) -> list[tuple[PurePosixPath, Node]]:
        """Return what is below `path`, but for what is in directories that are `skipped`."""
        return [
            (at, node)
            for at, node in self._tree.entries(self._tree.folder(path), path, depth)
            if not {*at.relative_to(path).parts[:-1]} & {*skipped}
        ]

    async def _stat(self, path: PurePosixPath, *, follow: bool) -> FileInfo:
        await self._begin()
        return _info(path, self._tree.find(path, follow=follow))

    async def _mkdir(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        await self._begin()
        self._tree.make_folder(path, parents=parents, exist_ok=exist_ok)

    async def _remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        await self._begin()
        self._tree.remove(path, recursive=recursive)

    async def _move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._begin()
        self._tree.move(source, destination)

    async def _glob(self, pattern: str, path: PurePosixPath, *, limit: int | None) -> GlobResult:
        await self._begin()
        names = sorted(self._names(path, compiled(pattern).fullmatch, Node))
        return GlobResult(paths=tuple(path / name for name in names[:limit]), total=len(names))

    def _names(
        self, path: PurePosixPath, wanted: Callable[[str], object] | None, kind: type[Node]
    ) -> list[str]:
        """Return the names of files below `path`, in the order of their paths."""
        found = self._entries(path, depth=10**6, skipped=SKIPPED)
        names = [
            str(at.relative_to(path))
            for at, node in found
            if isinstance(node, kind) and not isinstance(node, Folder)
        ]
        return [name for name in names if wanted is None or wanted(name)]

    async def _grep(self, query: GrepQuery) -> GrepResult:
        await self._begin()
        try:
            searched = re.compile(query.pattern, re.IGNORECASE if query.ignore_case else 0)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"bad pattern: {error}") from None
        if isinstance(self._tree.find(query.path), Folder):
            wanted = compiled(query.glob).fullmatch if query.glob else None
            files = [query.path / name for name in self._names(query.path, wanted, File)]
        else:
            files = [query.path]
        order = {"context": query.context, "limit": query.limit, "most": SEARCH_LIMIT}
        hits = (
            file_hits(io.BytesIO(self._tree.file(file).data), str(file), searched, order)
            for file in files
        )
        return grep_result([*limited(hits, query.limit)])

    # transfers

    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        async with LocalFile.open(source) as file:
            data = await joined(file.pieces(on_progress))
            await self._begin()
            lost = self._faults.strikes_file(Fault.MODE_LOST, destination)
            self._write(destination, data, mode=0o644 if lost else file.mode)
            return file.transfer

    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        size = len((await self._file(source)).data)
        return await receive_file(self._open_read(source, offset=0), destination, on_progress, size)

    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        local = await LocalTree.open(source, destination, tree)
        data = await joined(local.blocks())
        await self._begin()
        unpack(self._tree, destination, data, self._faults)
        return local.transfer()

    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        await self._begin()
        rules = IgnoreRules(tree.ignore)
        if tree.gitignore:
            for at, node in self._entries(source, depth=10**6, skipped=()):
                if at.name == GITIGNORE and isinstance(node, File):
                    rules.add(str(at.parent.relative_to(source)).removeprefix("."), node.data)
        data = packed(self._tree.folder(source))
        if self._faults.strikes_file(Fault.PATH_ESCAPES, source):
            destination = destination.parent
        return await extract_stream(pieces(data), destination, source, tree, rules)

    # the sandbox

    async def _begin(self) -> None:
        """Raise if the sandbox is closed or lost, or if a call is to fail."""
        await self._sandbox.reach()

    async def _file(self, path: PurePosixPath) -> File:
        await self._begin()
        try:
            return self._tree.file(path)
        except FileNotFoundError:
            if self._faults.strikes_file(Fault.WRONG_ERROR, path):
                raise RuntimeError(f"404: {path}") from None
            raise


def _info(path: PurePosixPath, node: Node) -> FileInfo:
    kind: Literal["file", "directory", "symlink", "other"] = "other"
    size = 0
    match node:
        case File():
            kind, size = "file", len(node.data)
        case Folder():
            kind = "directory"
        case Link():
            kind, size = "symlink", len(node.target.encode(errors="surrogateescape"))
    return FileInfo(
        path=path,
        kind=kind,
        size=size,
        mode=stat.S_IMODE(node.mode),
        modified=node.modified,
        uid=node.uid,
        gid=node.gid,
    )


def _copied(node: Node, path: PurePosixPath) -> Node:
    """Return a copy without set-id bits and hard links."""
    if isinstance(node, Special):
        fail(errno.EINVAL, path)
    found = copy.copy(node)
    found.mode &= 0o1777
    if isinstance(found, File):
        found.names = 1
    if isinstance(found, Folder):
        found.entries = {name: _copied(each, path / name) for name, each in found.entries.items()}
    return found
