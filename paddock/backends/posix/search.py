"""Let a process of this machine search contents that come from a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock import backends
from paddock._concurrency import acquire, cancel, finish

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["search"]

BOOT = "import sys; sys.path.append({folder!r}); from backends.posix.searcher import main; main()"
"""`backends` is a package of its own there, as `import paddock` needs others that are installed."""


async def search(order: Mapping[str, Any], contents: AsyncGenerator[bytes]) -> list[Any]:
    """Return what `paddock.backends.posix.searcher` finds in `contents`.

    Reads no more of them than it has to, and raises what they raise. If cancelled, the process
    is gone.
    """
    searcher = await acquire(_start(), _end)
    feeder = asyncio.create_task(_feed(searcher, order, contents))
    try:
        assert searcher.stdout is not None
        answer = await searcher.stdout.read()
        code = await searcher.wait()
    finally:
        await finish(_end(searcher))
        await cancel(feeder)
    if not feeder.cancelled() and (error := feeder.exception()) is not None:
        raise error
    if code != 0:
        raise OSError(errno.EIO, "The search was ended early")
    return [json.loads(line) for line in answer.splitlines()]


async def _start() -> Process:
    boot = BOOT.format(folder=str(Path(backends.__file__).parents[1]))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", "-c", boot),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _end(searcher: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        searcher.kill()
    await searcher.wait()


async def _feed(
    searcher: Process, order: Mapping[str, Any], contents: AsyncGenerator[bytes]
) -> None:
    assert searcher.stdin is not None
    try:
        async with contextlib.aclosing(contents):
            searcher.stdin.write(json.dumps(order).encode() + b"\n")
            async for piece in contents:
                searcher.stdin.write(piece)
                await searcher.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has found what it was asked for
    finally:
        searcher.stdin.close()
