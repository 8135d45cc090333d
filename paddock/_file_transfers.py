"""Uploads and downloads of a sandbox's files; a part of `paddock.files.FileSystem`."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from paddock._arguments import check_callback, check_choice, check_local_path, check_patterns
from paddock._file_primitives import FilePrimitives
from paddock.filetypes import DOWNLOAD_LIMIT
from paddock.transfers import DEFAULT_IGNORE, Links, Transfer, Tree

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from paddock.filetypes import AnyPath
    from paddock.transfers import TransferCallback

__all__ = ["FileTransfers"]


class FileTransfers(FilePrimitives):
    """Copies files and trees between this machine and a sandbox."""

    async def upload_file(
        self,
        source: str | os.PathLike[str],
        destination: AnyPath,
        *,
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy one file of this machine into the sandbox, in pieces and atomically."""
        return await self._upload_file(
            Path(check_local_path("source", source)),
            self._at(destination, "destination"),
            check_callback("on_progress", on_progress),
        )

    async def download_file(
        self,
        source: AnyPath,
        destination: str | os.PathLike[str],
        *,
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy one file of the sandbox to this machine, in pieces and atomically.

        Runs of at least 256 KiB of zeros become holes of a sparse file. Raises `OSError` with
        `errno.EFBIG` for more than `DOWNLOAD_LIMIT` bytes.
        """
        return await self._download_file(
            self._at(source, "source"),
            Path(check_local_path("destination", destination)),
            check_callback("on_progress", on_progress),
        )

    async def upload(
        self,
        source: str | os.PathLike[str],
        destination: AnyPath,
        *,
        ignore: Iterable[str] = DEFAULT_IGNORE,
        gitignore: bool = False,
        links: Links = "keep",
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy a file or a tree of this machine into the sandbox, a tree as one tar stream.

        A tree's contents are merged into the directory `destination`. Permission bits and
        modification times are kept, owners are not.

        - `ignore`: patterns as in a .gitignore file. A name matches at any depth, a pattern
          with a slash in it starts at `source`, and the last one that matches decides.
        - `gitignore`: apply the .gitignore files in the tree too, after `ignore`.
        - `links`: keep symbolic links as they are by default: inside a sandbox they are harmless.
          ``"skip"`` leaves them out; with ``"refuse"`` a tree that has any raises `ValueError`
          before anything is sent.
        - `on_progress`: called with the number of bytes of the stream that were sent.

        Devices, named pipes, sockets, set-id bits and entries whose path would be longer than
        4095 bytes are left out; the result lists them. Raises `ConfigError` for invalid
        options.
        """
        here, there = Path(check_local_path("source", source)), self._at(destination, "destination")
        tree = _tree(ignore, gitignore, links, on_progress)
        if await asyncio.to_thread(here.is_dir):
            return await self._upload_tree(here, there, tree)
        return await self._upload_file(here, there, on_progress)

    async def download(
        self,
        source: AnyPath,
        destination: str | os.PathLike[str],
        *,
        ignore: Iterable[str] = (),
        gitignore: bool = False,
        links: Links = "keep",
        on_progress: TransferCallback | None = None,
    ) -> Transfer:
        """Copy a file or a tree of the sandbox to this machine, a tree as one tar stream.

        The options are those of `upload`. Only symbolic links to a place in the tree are kept; an
        absolute one into `source` becomes relative. Others are left out, as are devices, named
        pipes, sockets, set-id bits, and paths that would be longer than 4095 bytes here. Hard
        links become copies. The result lists what was left out.

        The sandbox is not trusted. A stream that no packer makes, such as one with ``..`` in a
        name, raises `ValueError`, and so does a tree of more than a million entries or
        `DOWNLOAD_LIMIT` bytes; then nothing of the tree remains. A single file of more bytes
        raises `OSError` (`errno.EFBIG`).
        """
        there, here = self._at(source, "source"), Path(check_local_path("destination", destination))
        tree = _tree(ignore, gitignore, links, on_progress)
        info = await self._stat(there, follow=True)
        if info.kind == "directory":
            return await self._download_tree(there, here, tree)
        if info.size > DOWNLOAD_LIMIT:
            raise OSError(
                errno.EFBIG,
                f"File has {info.size} bytes, and a download is limited to {DOWNLOAD_LIMIT}",
                str(source),
            )
        return await self._download_one(there, info, here, on_progress)


def _tree(
    ignore: Iterable[str], gitignore: bool, links: Links, on_progress: TransferCallback | None
) -> Tree:
    return Tree(
        ignore=check_patterns("ignore", ignore),
        gitignore=gitignore,
        links=check_choice("links", links, get_args(Links)),
        on_progress=check_callback("on_progress", on_progress),
    )
