"""A service that answers with exactly the bytes it is told to: as other people's services do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP response. The connection is closed after it."""

    body: bytes
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode() + self.body


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice], **more}


def sse(*events: Any, done: bool = True) -> Answer:
    """A stream of `events`, each as JSON or as the bytes it is."""
    parts = [
        event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    ]
    return Answer(body=b"".join(parts) + (b"data: [DONE]\n\n" if done else b""))


def said(text: str) -> Answer:
    return sse(chunk({"content": text}), chunk({}, "stop"))


def refused(status: int, body: object, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(body=content, status=status, content_type="application/json", headers=named)


@dataclass(frozen=True)
class Request:
    target: str
    headers: dict[str, str]
    body: dict[str, Any]


class StrangerServer:
    """Answers the n-th request with the n-th answer, or with what that makes of the request."""

    def __init__(self, *answers: Answer | Callable[[dict[str, Any]], Answer]) -> None:
        self._answers = answers
        self.requests: list[Request] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.base_url = f"{self.origin}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.requests.append(await _read(reader))
            answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
            if not isinstance(answer, Answer):
                answer = answer(self.requests[-1].body)
            writer.write(answer.encoded())
            await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs: Sequence[tuple[str, str, str]] = [line.partition(":") for line in lines if line]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    return Request(target=first.split(" ")[1], headers=headers, body=body)
