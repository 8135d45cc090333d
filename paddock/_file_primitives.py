"""What a backend supplies for the files of a sandbox; see `paddock.files`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from paddock._arguments import check_path

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path, PurePosixPath

    from paddock.filetypes import (
        AnyPath,
        FileInfo,
        FileWriter,
        GlobResult,
        GrepQuery,
        GrepResult,
        TextLines,
    )
    from paddock.transfers import Transfer, TransferCallback, Tree

__all__ = ["FilePrimitives", "Root"]


class Root(Protocol):
    """The part of a sandbox that its files depend on."""

    def path(self, path: AnyPath) -> PurePosixPath: ...

    def raise_if_closed(self) -> None: ...


class FilePrimitives(ABC):
    """The methods that a `FileSystem` is made of: paths are absolute and arguments checked.

    They raise the exceptions of pathlib, and may be called by many tasks at once.
    """

    def __init__(self, root: Root) -> None:
        self._root = root

    def _at(self, path: AnyPath, name: str = "path") -> PurePosixPath:
        """Return the absolute path of a file of the sandbox. Raise `SandboxClosed`."""
        found = check_path(name, path)
        self._root.raise_if_closed()
        return self._root.path(found)

    @abstractmethod
    async def _read_bytes(self, path: PurePosixPath, *, offset: int, limit: int | None) -> bytes:
        """Implement `read_bytes`."""

    @abstractmethod
    async def _read_lines(
        self, path: PurePosixPath, *, start: int, limit: int, width: int
    ) -> TextLines:
        """Implement `read_lines`."""

    @abstractmethod
    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        """Implement `write_bytes`."""

    @abstractmethod
    async def _append(self, path: PurePosixPath, data: bytes) -> None:
        """Implement `append`."""

    @abstractmethod
    def _open_read(self, path: PurePosixPath, *, offset: int) -> AsyncGenerator[bytes]:
        """Implement `open_read`: yield the pieces; the first `anext` raises if it fails."""

    @abstractmethod
    def _open_archive(self, path: PurePosixPath) -> AsyncGenerator[bytes]:
        """Implement `open_archive`, of a directory: yield the pieces of a tar stream."""

    @abstractmethod
    def _open_write(
        self, path: PurePosixPath, *, append: bool, exclusive: bool
    ) -> AbstractAsyncContextManager[FileWriter]:
        """Implement `open_write`; close the writer at the end of the block."""

    @abstractmethod
    async def _copy(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        """Implement `copy`."""

    @abstractmethod
    async def _chown(self, path: PurePosixPath, user: str | None, group: str | None) -> None:
        """Implement `chown`; one of the two is given."""

    @abstractmethod
    async def _chmod(self, path: PurePosixPath, mode: int) -> None:
        """Implement `chmod`."""

    @abstractmethod
    async def _list(
        self, path: PurePosixPath, *, depth: int, hidden: bool, limit: int | None
    ) -> Sequence[FileInfo]:
        """Implement `list`."""

    @abstractmethod
    async def _stat(self, path: PurePosixPath, *, follow: bool) -> FileInfo:
        """Implement `stat` and `lstat`."""

    @abstractmethod
    async def _mkdir(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        """Implement `mkdir`."""

    @abstractmethod
    async def _remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        """Implement `remove`."""

    @abstractmethod
    async def _move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        """Implement `move`."""

    @abstractmethod
    async def _glob(self, pattern: str, path: PurePosixPath, *, limit: int | None) -> GlobResult:
        """Implement `glob`."""

    @abstractmethod
    async def _grep(self, query: GrepQuery) -> GrepResult:
        """Implement `grep`."""

    @abstractmethod
    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        """Implement `upload_file`."""

    @abstractmethod
    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        """Implement `download_file`."""

    @abstractmethod
    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        """Implement `upload`."""

    @abstractmethod
    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        """Implement `download`."""

    async def _download_one(
        self,
        source: PurePosixPath,
        info: FileInfo,
        destination: Path,
        on_progress: TransferCallback | None,
    ) -> Transfer:
        """`download_file` of what is known already."""
        return await self._download_file(source, destination, on_progress)
