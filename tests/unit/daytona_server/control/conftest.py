"""A server with a toolbox that does next to nothing, and the unmodified SDK."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from daytona import AsyncDaytona, DaytonaConfig  # noqa: TID253 - the SDK is what is served here

from paddock.testing.daytona import DaytonaServer, Schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path


class Echo:
    """Answers `execute` with its command, keeps one file, sends to WebSockets what they say."""

    def __init__(self, root: Path, *, env: Mapping[str, str], image: str) -> None:
        self.root = root
        self.env = env
        self.image = image
        self.executions = 0

    async def start(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)

    async def stop(self) -> None:
        """Nothing runs."""

    async def remove(self) -> None:
        for path in self.root.glob("*"):
            path.unlink()
        if self.root.exists():
            self.root.rmdir()

    async def handle(self, request: web.Request, path: str) -> web.StreamResponse:
        if request.headers.get("Upgrade") == "websocket":
            return await self._talk(request)
        if path == "/files/download":
            return web.Response(body=(self.root / "file").read_bytes())
        body: Any = await request.json() if request.can_read_body else None
        Schema.toolbox().check_request(request.method, path, set(request.query), body)
        answer: dict[str, Any] = {"dir": "/home/daytona"}
        if path == "/process/execute":
            self.executions += 1
            (self.root / "file").write_text(body["command"])
            answer = {"exitCode": 0, "result": body["command"]}
        Schema.toolbox().check_response(request.method, path, 200, answer)
        return web.json_response(answer)

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for number in range(3):
            await socket.send_bytes(b"\x01\x01\x01" + f"line {number}\n".encode())
        await socket.close()
        return socket


@pytest.fixture(autouse=True)
def no_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads .env files of the current folder: here there are none."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[DaytonaServer]:
    async with DaytonaServer(toolbox=Echo) as server:
        yield server
        assert server.violations == []
    assert not server.sandboxes


@pytest.fixture
async def daytona(server: DaytonaServer) -> AsyncIterator[AsyncDaytona]:
    async with connect(server) as daytona:
        yield daytona


@pytest.fixture
def other_server() -> Callable[..., DaytonaServer]:
    """Makes a server with other settings."""
    return functools.partial(DaytonaServer, toolbox=Echo)


def connect(server: DaytonaServer) -> AsyncDaytona:
    config = DaytonaConfig(api_key=server.api_key, api_url=server.api_url, target="us")
    return AsyncDaytona(config)


@pytest.fixture
def connected() -> Callable[[DaytonaServer], AsyncDaytona]:
    """The SDK in front of a server."""
    return connect


@pytest.fixture
def executions(server: DaytonaServer) -> Callable[[], int]:
    """How many commands the sandboxes of the server have executed."""

    def count() -> int:
        return sum(
            each.toolbox.executions
            for each in server.sandboxes.values()
            if isinstance(each.toolbox, Echo)
        )

    return count
