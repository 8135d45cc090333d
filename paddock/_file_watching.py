"""Changes of files, found by polling; for `FileSystem.watch`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paddock.filetypes import FileChange

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import PurePosixPath

    from paddock.filetypes import FileInfo

__all__ = ["WATCHED_MAX", "by_looking"]

WATCHED_MAX = 100_000
"""Files below a directory that is watched, at most: each look is held in memory."""

Look = dict["PurePosixPath", tuple[object, ...]]


async def by_looking(
    look: Callable[[], Awaitable[Sequence[FileInfo]]], interval: float
) -> AsyncGenerator[FileChange | None]:
    """Yield None when watching has begun, then each change, until the directory is gone."""
    before = _seen(await look())
    yield None
    while True:
        await asyncio.sleep(interval)
        try:
            after = _seen(await look())
        except (FileNotFoundError, NotADirectoryError):
            for change in _differences(before, {}):
                yield change
            return
        for change in _differences(before, after):
            yield change
        before = after


def _seen(entries: Iterable[FileInfo]) -> Look:
    # Changes inside a directory are reported on their own.
    return {
        one.path: (
            one.kind,
            one.mode,
            *(() if one.kind == "directory" else (one.size, one.modified)),
        )
        for one in entries
    }


def _differences(before: Mapping[PurePosixPath, object], after: Look) -> list[FileChange]:
    gone = sorted(before.keys() - after.keys(), reverse=True)
    new = sorted(after.keys() - before.keys())
    changed = sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
    return [
        *(FileChange(kind="removed", path=path) for path in gone),
        *(FileChange(kind="created", path=path) for path in new),
        *(FileChange(kind="changed", path=path) for path in changed),
    ]
