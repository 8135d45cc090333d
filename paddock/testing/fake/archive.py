"""Trees of a file system in memory to tar archives, and back."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from typing import TYPE_CHECKING

from paddock.testing.fake.faults import Fault
from paddock.testing.fake.tree import File, Folder, Link, Special, fail

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from paddock.testing.fake.faults import Faults
    from paddock.testing.fake.tree import Node, Tree

__all__ = ["packed", "unpack"]

ENCODING = {"encoding": "utf-8", "errors": "surrogateescape"}


def packed(folder: Folder) -> bytes:
    """Return an archive of what is in `folder`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, **ENCODING) as archive:  # type: ignore[call-overload]
        _pack(archive, folder, "")
    return buffer.getvalue()


def _pack(archive: tarfile.TarFile, folder: Folder, prefix: str) -> None:
    for name, node in folder.entries.items():
        member = tarfile.TarInfo(prefix + name)
        member.mode, member.mtime = node.mode, int(node.modified)
        match node:
            case File():
                member.size = len(node.data)
                archive.addfile(member, io.BytesIO(node.data))
            case Link():
                member.type, member.linkname = tarfile.SYMTYPE, node.target
                archive.addfile(member)
            case Special():
                member.type = tarfile.FIFOTYPE
                archive.addfile(member)
            case Folder():
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
                _pack(archive, node, f"{prefix}{name}/")


def unpack(tree: Tree, destination: PurePosixPath, data: bytes, faults: Faults) -> None:
    """Merge an archive into the directory `destination`."""
    tree.make_folder(destination, parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data), **ENCODING) as archive:  # type: ignore[call-overload]
        for member in archive:
            path = destination / member.name
            _require_folders(tree, destination, path)
            node = _node(archive, member, tree.folder(destination))
            if isinstance(node, File) and faults.strikes_file(Fault.DISK_FULL, path):
                fail(errno.ENOSPC, path)
            if faults.strikes_file(Fault.MODE_LOST, path):
                node.mode = 0o644
            _put(tree, path, node)


def _require_folders(tree: Tree, destination: PurePosixPath, path: PurePosixPath) -> None:
    """Raise if a link is in the way: an upload goes through none."""
    for parent in path.relative_to(destination).parents:
        found = tree.find(destination / parent, follow=parent == parent.parent)
        if not isinstance(found, Folder):
            raise OSError(errno.ENOTDIR, "Something else than a directory is in the way", str(path))


def _node(archive: tarfile.TarFile, member: tarfile.TarInfo, top: Folder) -> Node:
    about = {"mode": member.mode, "modified": float(member.mtime)}
    if member.isdir():
        return Folder(**about)  # type: ignore[arg-type]
    if member.issym():
        return Link(target=member.linkname, **about)  # type: ignore[arg-type]
    content = archive.extractfile(member)
    return File(data=content.read() if content else b"", **about)  # type: ignore[arg-type]


def _put(tree: Tree, path: PurePosixPath, node: Node) -> None:
    folder, name = tree.place(path, follow=False)
    there = folder.entries.get(name)
    if isinstance(node, Folder) and isinstance(there, Folder):
        there.mode, there.modified = node.mode, node.modified
    elif isinstance(there, Folder):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    elif isinstance(node, Folder) and there is not None:
        raise OSError(errno.ENOTDIR, "Something else than a directory is in the way", str(path))
    else:
        folder.entries[name] = node
