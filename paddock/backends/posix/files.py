"""The files of a sandbox that can only run commands: most calls are one script inside."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, Literal
from weakref import WeakValueDictionary

from paddock._concurrency import finish
from paddock.backends.guest.answers import grep_result, text_lines
from paddock.backends.guest.inside import globs
from paddock.backends.guest.inside.ignored import GITIGNORE, IgnoreRules
from paddock.backends.posix import scripts
from paddock.backends.posix.copying import COPY
from paddock.backends.posix.search import search
from paddock.backends.posix.shallow import ShallowNames
from paddock.backends.posix.shell import ANSWER_MAX, Shell
from paddock.backends.posix.writing import CLEAN, WRITE
from paddock.backends.transfer import (
    LocalFile,
    LocalTree,
    extract_stream,
    new_mark,
    receive_file,
)
from paddock.errors import SandboxError, Unsupported
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
    from pathlib import Path, PurePosixPath

    from paddock.files import FileWriter
    from paddock.sandbox import Sandbox
    from paddock.transfers import Transfer, TransferCallback, Tree

    Kind = Literal["file", "directory", "symlink", "other"]

__all__ = ["PosixFileSystem"]

BLOCK = 65536
"""Bytes by which a part of a file is read."""
HEAD_BLOCKS = 5
"""Of an ignore file, the blocks that are read: no person writes as much."""
NAMES_MAX = 64 * 1024
"""Bytes of names that one command is given."""
RECORD = re.compile(rb"//([0-9a-f]+) (\d+) (-?\d+) (\d+) (\d+) (.*?)\n(?=//|\Z)", re.DOTALL)
"""One of `STAT_FORMAT`."""
KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
PACKED = re.compile(
    r"file changed as we read it|file removed before we read it|file ?name too long$"
    r"|error exit delayed|exiting with failure status",
    re.IGNORECASE,
)
"""What a tar says that has packed all that can be extracted."""
PRUNED = ["-type", "d", "(", *" -o ".join(f"-name {name}" for name in sorted(SKIPPED)).split(), ")"]
"""Directories that searches do not enter, as find(1) has it."""
FILES = [*PRUNED, "-prune", "-o"]
NAMED = ["(", "-type", "f", "-o", "-type", "l", ")"]


class PosixFileSystem(FileSystem):
    """Uses nothing of a sandbox but `Sandbox._start`.

    The sandbox needs a POSIX shell and the tools that are in every image that has one
    (coreutils and findutils, or BusyBox); tar for trees. A call that needs a tool which is
    not there raises `Unsupported` and names it.
    """

    def __init__(self, sandbox: Sandbox, user: str | None = None) -> None:
        super().__init__(sandbox)
        self._sandbox = sandbox
        self._shell = Shell(sandbox, user)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # one script each

    async def _read_bytes(self, path: PurePosixPath, *, offset: int, limit: int | None) -> bytes:
        where = str(path)
        if offset == 0 and limit is None:
            told = await self._shell.run(
                scripts.WHOLE, where, str(READ_LIMIT), keep=READ_LIMIT + BLOCK
            )
            skipped = 0
        else:
            first, skipped = divmod(offset, BLOCK)
            wanted = READ_LIMIT if limit is None else limit
            blocks = -(-(skipped + wanted) // BLOCK)
            told = await self._shell.run(
                scripts.PART, where, str(first), str(blocks), str(offset), keep=(blocks + 1) * BLOCK
            )
        size, _, data = told.partition(b"\n")
        if limit is None and int(size) - offset > READ_LIMIT:
            raise too_large(where, int(size))
        return data[skipped:] if limit is None else data[skipped : skipped + limit]

    async def _stat(self, path: PurePosixPath, *, follow: bool) -> FileInfo:
        script = scripts.STAT if follow else scripts.LSTAT
        return _infos(await self._shell.run(script, str(path)), path)[0]

    def _as_user(self, user: str) -> PosixFileSystem:
        if Capability.USER not in self._sandbox.capabilities:
            raise Unsupported("as_user()", backend=self._sandbox.backend)
        return PosixFileSystem(self._sandbox, user)

    async def _chown(self, path: PurePosixPath, user: str | None, group: str | None) -> None:
        owner = user or ""
        await self._shell.run(
            scripts.CHOWN, str(path), owner if group is None else f"{owner}:{group}"
        )

    async def _chmod(self, path: PurePosixPath, mode: int) -> None:
        # Five digits: with fewer, some chmod keep a directory's set-group-id bit.
        await self._shell.run(scripts.CHMOD, str(path), f"{mode:05o}")

    async def _mkdir(self, path: PurePosixPath, *, parents: bool, exist_ok: bool) -> None:
        flags = str(int(parents)), str(int(exist_ok))
        await self._shell.run(scripts.MAKE, str(path), *flags)

    async def _remove(self, path: PurePosixPath, *, recursive: bool) -> None:
        await self._shell.run(scripts.DELETE, str(path), str(int(recursive)))

    async def _move(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        await self._shell.run(scripts.MOVE, str(source), str(destination))

    # searches

    async def _list(
        self, path: PurePosixPath, *, depth: int, hidden: bool, limit: int | None
    ) -> list[FileInfo]:
        found = await self._find(
            str(path),
            *("-mindepth", "1", "-maxdepth", str(depth)),
            *(() if hidden else ("-name", ".*", "-prune", "-o")),
            *("-exec", "stat", "-c", scripts.STAT_FORMAT, "{}", "+"),
            *(PRUNED if depth > 1 else ()),
            *(("-prune",) if depth > 1 else ()),
        )
        return sorted(_infos(found, path), key=lambda info: info.path.parts)[:limit]

    async def _glob(self, pattern: str, path: PurePosixPath, *, limit: int | None) -> GlobResult:
        wanted = globs.compiled(pattern)
        found = await self._find(str(path), *FILES, *NAMED, "-print0")
        names = await asyncio.to_thread(_matching, found, wanted.fullmatch)
        names.sort()
        return GlobResult(paths=tuple(path / name for name in names[:limit]), total=len(names))

    async def _grep(self, query: GrepQuery) -> GrepResult:
        _check_pattern(query.pattern)
        folder, names = await self._searched(query.path, query.glob)
        separator = secrets.token_hex(16)
        order = {
            "pattern": query.pattern,
            "ignore_case": query.ignore_case,
            "context": query.context,
            "limit": query.limit,
            "most": SEARCH_LIMIT,
            "separator": f"\0{separator}\0",
            "names": [str(folder / name) for name in names],
        }
        blocks = SEARCH_LIMIT // BLOCK + 1  # a little more than is searched
        found = await search(order, self._texts(str(folder), names, separator, blocks))
        return grep_result(found)

    async def _read_lines(
        self, path: PurePosixPath, *, start: int, limit: int, width: int
    ) -> TextLines:
        contents = self._shell.stream(scripts.CONTENTS, str(path), "0")
        order = {"start": start, "limit": limit, "width": width, "most": SEARCH_LIMIT}
        return text_lines(await search(order, contents))

    async def _find(self, where: str, *expression: str) -> bytes:
        return await self._shell.run(scripts.FIND, where, *expression)

    async def _searched(
        self, root: PurePosixPath, glob: str | None
    ) -> tuple[PurePosixPath, Sequence[str]]:
        """A directory and the files below it, in order, that a search looks at."""
        wanted = globs.compiled(glob).fullmatch if glob else None
        try:
            found = await self._find(str(root), *FILES, "-type", "f", "-print0")
        except NotADirectoryError:
            if (await self._stat(root, follow=True)).kind != "file":
                raise OSError(errno.EINVAL, "Not a regular file", str(root)) from None
            return root.parent, [root.name]
        names = await asyncio.to_thread(_matching, found, wanted)
        return root, sorted(names, key=lambda name: os.fsencode(name).split(b"/"))

    async def _texts(
        self, folder: str, names: Sequence[str], separator: str, blocks: int
    ) -> AsyncGenerator[bytes]:
        """At most so many blocks of each file, a command's worth of names at a time."""
        at = 0
        while at < len(names):
            start, size = at, 0
            while at < len(names) and size < NAMES_MAX:
                size += len(names[at])
                at += 1
            batch = [f"./{name}" for name in names[start:at]]
            texts = self._shell.stream(
                scripts.TEXTS, folder, separator, str(blocks), *batch, cwd=folder
            )
            async with contextlib.aclosing(texts):
                async for piece in texts:
                    yield piece

    # transfers

    async def _write_bytes(
        self, path: PurePosixPath, data: bytes, *, exclusive: bool, expect: bytes | None
    ) -> None:
        condition = "exclusive" if exclusive else "replace"
        if expect is not None:
            condition = hashlib.sha256(expect).hexdigest()
        await self._write(str(path), _once(data), size=len(data), condition=condition)

    async def _upload_file(
        self, source: Path, destination: PurePosixPath, on_progress: TransferCallback | None
    ) -> Transfer:
        async with LocalFile.open(source) as file:
            where, pieces = str(destination), file.pieces(on_progress)
            await self._write(where, pieces, size=file.size, mode=f"{file.mode:o}")
            return file.transfer

    async def _download_file(
        self, source: PurePosixPath, destination: Path, on_progress: TransferCallback | None
    ) -> Transfer:
        contents = self._shell.stream(scripts.CONTENTS, str(source), "0")
        async with contextlib.aclosing(contents):
            return await receive_file(contents, destination, on_progress)

    async def _upload_tree(self, source: Path, destination: PurePosixPath, tree: Tree) -> Transfer:
        local = await LocalTree.open(source, destination, tree)
        where = str(destination)
        async with self._tagged(where) as tag:
            await self._shell.feed(local.blocks(ShallowNames()), scripts.UNPACK, where, tag)
        return local.transfer()

    async def _download_tree(
        self, source: PurePosixPath, destination: Path, tree: Tree
    ) -> Transfer:
        rules = await self._rules(str(source), tree)
        async with contextlib.aclosing(self._open_archive(source)) as packed:
            return await extract_stream(packed, destination, source, tree, rules)

    async def _rules(self, where: str, tree: Tree) -> IgnoreRules:
        """What is ignored of the tree `where`: tar cannot tell, so its stream has all."""
        rules = IgnoreRules(tree.ignore)
        if tree.gitignore:
            found = await self._find(where, "-name", GITIGNORE, "-type", "f", "-print0")
            names = sorted(_matching(found, None), key=lambda name: name.count("/"))
            separator = secrets.token_hex(16)
            heads = self._texts(where, names, separator, HEAD_BLOCKS)
            contents = await _joined(heads)
            for name, text in zip(names, contents.split(f"\0{separator}\0".encode()), strict=False):
                rules.add(name.rpartition("/")[0], text)
        return rules

    def _open_archive(self, path: PurePosixPath) -> AsyncGenerator[bytes]:
        return self._shell.stream(scripts.PACK, str(path), cwd=str(path), harmless=PACKED)

    def _open_read(self, path: PurePosixPath, *, offset: int) -> AsyncGenerator[bytes]:
        first, skipped = divmod(offset, BLOCK)
        return _without(skipped, self._shell.stream(scripts.CONTENTS, str(path), str(first)))

    @contextlib.asynccontextmanager
    async def _open_write(
        self, path: PurePosixPath, *, append: bool, exclusive: bool
    ) -> AsyncGenerator[FileWriter]:
        where, mark = str(path), new_mark()
        condition = "append" if append else "exclusive" if exclusive else "replace"
        async with self._tagged(where) as tag:
            opened = self._shell.write(mark, WRITE, where, tag, "", "", condition, mark, "")
            async with opened as file:
                yield file

    async def _append(self, path: PurePosixPath, data: bytes) -> None:
        await self._write(str(path), _once(data), size=len(data), condition="append")

    async def _copy(self, source: PurePosixPath, destination: PurePosixPath) -> None:
        where = str(destination)
        if (await self._stat(source, follow=True)).kind != "directory":
            await self._write(where, _once(b""), source=str(source))
            return
        async with self._tagged(where) as tag:
            await self._shell.run(COPY, where, str(source), tag)

    async def _write(
        self,
        where: str,
        pieces: AsyncGenerator[bytes],
        *,
        size: int = 0,
        mode: str = "",
        condition: str = "replace",
        source: str = "",
    ) -> None:
        """Writers of one file take turns, so that none is between another's look at it
        and the replacing."""
        async with self._locks.setdefault(where, asyncio.Lock()), self._tagged(where) as tag:
            args = str(size), mode, condition, "", source
            await self._shell.feed(pieces, WRITE, where, tag, *args)

    @contextlib.asynccontextmanager
    async def _tagged(self, where: str) -> AsyncGenerator[str]:
        """Yield a part of temporary names for a script that writes to `where`; what has such
        names is gone at the end."""
        tag = secrets.token_hex(6)
        try:
            yield tag
        except BaseException as error:
            if not isinstance(error, OSError):  # else the script has ended by itself
                await finish(self._clean(where, tag))
            raise

    async def _clean(self, where: str, tag: str) -> None:
        with contextlib.suppress(SandboxError, OSError):
            await self._shell.run(CLEAN, where, tag)


def _infos(told: bytes, root: PurePosixPath) -> list[FileInfo]:
    """Parse the output of `STAT_FORMAT` for files below `root`."""
    found = []
    for mode, size, modified, uid, gid, name in RECORD.findall(told):
        bits = int(mode, 16)
        found.append(
            FileInfo(
                path=root / os.fsdecode(name),
                kind=KINDS.get(stat.S_IFMT(bits), "other"),
                size=int(size),
                mode=stat.S_IMODE(bits),
                modified=float(modified),
                uid=int(uid),
                gid=int(gid),
            )
        )
    return found


def _matching(found: bytes, wanted: Callable[[str], object] | None) -> list[str]:
    """Of names that begin with ``./`` and end with NUL those that are `wanted`."""
    names = [os.fsdecode(name[2:]) for name in found.split(b"\0")[:-1]]
    return [name for name in names if wanted is None or wanted(name)]


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"bad pattern: {error}") from None


async def _joined(pieces: AsyncGenerator[bytes]) -> bytes:
    found = bytearray()
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            found += piece
            if len(found) > ANSWER_MAX:
                raise OSError(errno.EFBIG, f"{GITIGNORE} files have more than {ANSWER_MAX} bytes")
    return bytes(found)


async def _without(skipped: int, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """All but the first `skipped` bytes."""
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if len(piece) > skipped:
                yield piece[skipped:]
            skipped = max(0, skipped - len(piece))


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    yield data
