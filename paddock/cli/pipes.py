"""This process's own stdin, stdout and stderr, without blocking the event loop.

They are shared with our parent process, so they stay in blocking mode, and a thread
waits for each. The threads are daemons: one that waits for a reader or writer that
never comes does not hold this process when it has nothing else to do.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from paddock.sandbox import Stream

T = TypeVar("T")

__all__ = ["in_thread", "read_stdin", "write_output"]

CHUNK = 64 * 1024
"""Bytes read at once: what a pipe holds."""

_DESCRIPTORS: dict[Stream, int] = {"stdout": 1, "stderr": 2}


async def read_stdin(*, terminal: bool = False) -> AsyncIterator[bytes]:
    """What is piped into this process, piece by piece, or typed, if `terminal` says so too."""
    if sys.stdin is None or (sys.stdin.isatty() and not terminal):
        return
    while data := await in_thread(lambda: os.read(0, CHUNK)):
        yield data


async def write_output(stream: Stream, data: bytes) -> None:
    """Write all of `data` as it is. `BrokenPipeError` when the reader has left."""
    await in_thread(lambda: _write_all(_DESCRIPTORS[stream], data))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def in_thread(work: Callable[[], T]) -> T:
    """Like `asyncio.to_thread`, whose threads the interpreter waits for at its exit."""
    future: Future[T] = Future()

    def body() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, daemon=True, name="paddock-pipe").start()
    return await asyncio.wrap_future(future)
