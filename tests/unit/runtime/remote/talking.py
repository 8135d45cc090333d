"""A client that writes frames by hand, and keeps what comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

import websockets
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets

from paddock.runtime.remote.messages import TERMINALS
from paddock.runtime.remote.options import QueryOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["PATIENCE", "Talker", "command_request", "invocation", "options", "stranger"]

PATIENCE = 60.0
"""Seconds for what takes less than one, on a machine that is busy."""


def invocation(prompt: str, **more: Any) -> dict[str, Any]:
    """The request of the newest published client."""
    return {
        "message_type": "invocation_message",
        "source_id": None,
        "system_prompt": "You are a helpful assistant.",
        "user_prompt": prompt,
        "agent_env": None,
        "output_format_json_schema_str": None,
        "secrets_to_redact": [],
        "artifacts_dirs": None,
        "model": "gpt-4.1",
        **more,
    }


def options(**more: Any) -> QueryOptions:
    return QueryOptions("s", "m", **({"timeout": PATIENCE} | more))


def command_request(*commands: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    listed = [{"command": each} if isinstance(each, str) else each for each in commands]
    return {
        "message_type": "command_execution_message",
        "secrets_to_redact": [],
        "commands": listed,
        "artifacts_dirs": None,
        **more,
    }


@contextlib.asynccontextmanager
async def stranger(
    talk: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that is not ours."""

    async def quietly(socket: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            await talk(socket)

    async with serve_sockets(quietly, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


class Talker:
    """One connection. `answer` gives the response to a request for an upload, or None."""

    def __init__(
        self,
        url: str,
        answer: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        **options: Any,
    ) -> None:
        self._url = url
        self._options = options
        self._answer = answer
        self._changed = asyncio.Condition()
        self.frames: list[dict[str, Any]] = []
        self.closed: int | None = None

    async def __aenter__(self) -> Self:
        options = {"compression": None, **self._options}
        self.socket = await websockets.connect(self._url, **options)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()
        await self._reading

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self.socket:
                frame = json.loads(text)
                async with self._changed:
                    self.frames.append(frame)
                    self._changed.notify_all()
                if frame["message_type"] == "artifact_upload_request_message" and self._answer:
                    response = self._answer(frame)
                    if response is not None:
                        await self.send(response)
        async with self._changed:
            self.closed = self.socket.close_code
            self._changed.notify_all()

    async def send(self, frame: dict[str, Any] | str) -> None:
        await self.socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: done() or self.closed is not None)
        assert done(), (self.closed, self.frames)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["message_type"] in kinds]

    async def terminal(self, count: int = 1) -> dict[str, Any]:
        """Wait for the terminal message of that number, and return it."""
        await self.until(lambda: len(self.of(*TERMINALS)) >= count)
        return self.of(*TERMINALS)[count - 1]

    async def ask(self, frame: dict[str, Any] | str) -> dict[str, Any]:
        """Send a request; return the next terminal message."""
        before = len(self.of(*TERMINALS))
        await self.send(frame)
        return await self.terminal(before + 1)

    async def until_closed(self) -> int | None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self.closed is not None)
        return self.closed

    def output(self, stream: str = "stdout") -> str:
        found = self.of("command_output_message")
        return "".join(each["text"] for each in found if each["stream"] == stream)
