"""A proxy in front of an engine's socket whose streams can be held up and cut, and whose requests
can be left without an answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["EngineProxy"]


class EngineProxy:
    """Passes everything on. `refusing` cuts new connections; `flowing`, while it is cleared,
    holds up what the engine sends on streams of processes."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.refusing = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.hanging = asyncio.Event()
        """A request waits, see `hang`."""
        self.answered = asyncio.Event()
        """The engine has answered a request that waited."""
        self._hangs: re.Pattern[bytes] | None = None
        self._answers = asyncio.Event()
        self._ends: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    @contextlib.asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Listen at `path`; at the end all connections are closed."""
        server = await asyncio.start_unix_server(self._accept, path)
        try:
            yield
        finally:
            server.close()
            tasks, ends = list(self._ends), [end for ends in self._ends.values() for end in ends]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)

    def hang(self, pattern: str) -> None:
        """Keep requests waiting whose beginning matches, until `answer`."""
        self._hangs = re.compile(pattern.encode())
        self._answers.clear()
        self.hanging.clear()

    def answer(self) -> None:
        """Pass on what waits, although nobody may wait for the answer any more."""
        self._hangs = None
        self._answers.set()

    def cut(self) -> None:
        """Break all connections that there are."""
        for ends in self._ends.values():
            _abort(ends)

    def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        ends = [back]
        task = asyncio.create_task(self._serve(near, ends))
        self._ends[task] = ends  # at once: a task that is cancelled early does not begin
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        _abort(self._ends.pop(task))

    async def _serve(self, near: asyncio.StreamReader, ends: list[asyncio.StreamWriter]) -> None:
        request = await self._first_line(near)
        if self.refusing or not request:
            return
        far, forth = await asyncio.open_unix_connection(self.socket)
        ends.append(forth)
        is_stream = b"/attach?" in request or (b"/exec/" in request and b"/start" in request)
        late = asyncio.Event()
        with contextlib.suppress(ExceptionGroup):  # of broken connections
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._ask(request, near, forth, late))
                ways.create_task(self._tell(far, ends[0], late, held=is_stream))

    async def _first_line(self, near: asyncio.StreamReader) -> bytes:
        """Nothing from somebody who only looks whether anybody listens."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            return await near.readuntil(b"\r\n")
        return b""

    async def _ask(
        self,
        data: bytes,
        near: asyncio.StreamReader,
        forth: asyncio.StreamWriter,
        late: asyncio.Event,
    ) -> None:
        while data:
            if self._hangs is not None and self._hangs.search(data):
                self.hanging.set()
                await self._answers.wait()
                late.set()
            forth.write(data)
            await forth.drain()
            data = await near.read(65536)
        if late.is_set():
            forth.write_eof()  # the answer is heard, though not by who asked
        else:
            forth.close()

    async def _tell(
        self,
        far: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        late: asyncio.Event,
        *,
        held: bool,
    ) -> None:
        while data := await far.read(65536):
            if late.is_set():
                self.answered.set()
            if held:
                await self.flowing.wait()
            back.write(data)
            await back.drain()
        back.close()


def _abort(ends: list[asyncio.StreamWriter]) -> None:
    for end in ends:
        end.transport.abort()
