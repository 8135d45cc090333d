"""A directory for what one build sends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["build_folder"]


@contextlib.asynccontextmanager
async def build_folder() -> AsyncIterator[Path]:
    """A directory of this user's alone, which is removed at the end of the block."""
    folder = await acquire(asyncio.to_thread(_make), _removed)
    try:
        yield folder
    finally:
        await finish(_removed(folder))


def _make() -> Path:
    return Path(tempfile.mkdtemp(prefix="paddock-build-"))


async def _removed(folder: Path) -> None:
    await asyncio.to_thread(_remove, folder)


def _remove(folder: Path) -> None:
    """Remove the directory, with directories of the context that cannot be written to."""
    for place, names, _ in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
