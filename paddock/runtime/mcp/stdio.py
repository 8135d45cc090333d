"""Serving one client over this process's stdin and stdout.

The SDK's own transport waits for stdin in a thread that nothing ends: after SIGTERM it would hold
the process until the client says something. Here the threads wait for a wake-up, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from paddock._concurrency import cancel
from paddock._logs import get_logger
from paddock.runtime.core.lines import LineBuffer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.server.lowlevel import Server

__all__ = ["serve_over_stdio"]

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message: an upload comes in one, in base64. A longer one ends the connection."""

CHUNK = 64 * 1024
"""Bytes read at once: what a pipe holds."""

FLUSH_TIMEOUT = 2.0
"""Seconds that a client has to read the last answers, after it has closed its own end."""

WRITTEN = select.PIPE_BUF
"""Bytes written at once: a pipe that is ready takes as many without blocking."""

_log = get_logger(__name__)


async def serve_over_stdio(server: Server[Any]) -> None:
    """Serve until the client closes its end, or this is cancelled.

    Meanwhile descriptor 0 is empty and descriptor 1 is stderr, so that what programs of this
    process print does not get into the protocol.
    """
    async with _streams() as (receive, send):
        await server.run(receive, send, server.create_initialization_options())


@contextlib.asynccontextmanager
async def _streams() -> AsyncIterator[
    tuple[
        MemoryObjectReceiveStream[SessionMessage | Exception],
        MemoryObjectSendStream[SessionMessage],
    ]
]:
    """Yield the messages of the client, and what takes messages to it."""
    to_server, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    send, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    with _Wire.taken() as wire, to_server, receive, send, from_server:
        tasks = [
            asyncio.create_task(_read(wire, to_server), name="stdin of MCP"),
            asyncio.create_task(_write(wire, from_server), name="stdout of MCP"),
        ]
        try:
            yield receive, send
            await send.aclose()
            await asyncio.wait(tasks[1:], timeout=FLUSH_TIMEOUT)
        finally:
            wire.end()
            await cancel(*tasks)


async def _read(wire: _Wire, messages: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    buffer = LineBuffer()
    async with messages:
        while data := await _in_thread(wire.read):
            for line in buffer.feed(data):
                if line.strip():
                    await messages.send(_parsed(line))
            if len(buffer) > MAX_MESSAGE:
                _log.error("the client sent a message of more than %d bytes", MAX_MESSAGE)
                return


def _parsed(line: bytes) -> SessionMessage | Exception:
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError as error:
        _log.warning("the client sent a line that is no message")
        return error
    return SessionMessage(message)


async def _write(wire: _Wire, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
    async with messages:
        async for each in messages:
            text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
            data = text.encode() + b"\n"
            try:
                await _in_thread(lambda data=data: wire.write(data))  # type: ignore[misc]
            except OSError:
                return  # the client has left; the end of stdin says so, too


class _Wire:
    """The descriptors that stdin and stdout were, and what ends a wait for them."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._ended, self._end = os.pipe()

    @classmethod
    @contextlib.contextmanager
    def taken(cls) -> Iterator[_Wire]:
        """Take stdin and stdout away from the rest of this process while the block runs."""
        sys.stdout.flush()
        with contextlib.ExitStack() as stack:
            stdin, stdout = (_moved(stack, number) for number in (0, 1))
            empty = os.open(os.devnull, os.O_RDONLY)
            os.dup2(empty, 0)
            os.close(empty)
            os.dup2(2, 1)
            wire = cls(stdin, stdout)
            stack.callback(wire._close)
            stack.callback(sys.stdout.flush)
            yield wire

    def read(self) -> bytes:
        """Return what comes next; nothing at the end, or when it is ended. Blocks."""
        ready, _, _ = select.select([self._stdin, self._ended], [], [])
        return b"" if self._ended in ready else os.read(self._stdin, CHUNK)

    def write(self, data: bytes) -> None:
        """Write all of `data`, or some of it when it is ended. Blocks."""
        view = memoryview(data)
        while view:
            ready, _, _ = select.select([self._ended], [self._stdout], [])
            if ready:
                return
            view = view[os.write(self._stdout, view[:WRITTEN]) :]

    def end(self) -> None:
        """End what waits, and all that will."""
        os.write(self._end, b"x")

    def _close(self) -> None:
        os.close(self._ended)
        os.close(self._end)


def _moved(stack: contextlib.ExitStack, number: int) -> int:
    """Return a copy of a standard descriptor, which is put back at the end of `stack`."""
    copy = os.dup(number)
    stack.callback(os.close, copy)
    stack.callback(os.dup2, copy, number)
    return copy


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Return what `work` returns, in a thread that the interpreter does not wait for at its exit.

    The thread has ended when this was cancelled, too: `work` has to end by itself then.
    """
    future: Future[Any] = Future()

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, daemon=True, name="paddock-mcp").start()
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting])
        raise
