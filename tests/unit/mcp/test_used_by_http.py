"""Servers that are written with the official SDK, over HTTP and by their stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from starlette.responses import Response

from paddock import ConfigError
from paddock.runtime.tools.mcp import transports
from tests.unit.mcp.agents import agent_of, results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
SDK_SERVER = """
from mcp.server.mcpserver import MCPServer

app = MCPServer("sample")

@app.tool()
def add(a: int, b: int) -> int:
    return a + b

app.run("stdio")
"""


def sample() -> MCPServer:
    app = MCPServer("sample")

    @app.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @app.tool()
    def picture() -> Image:
        return Image(data=PNG, format="png")

    @app.tool()
    def large() -> str:
        return "x" * 2_000_000

    @app.tool()
    def parts() -> list[str]:
        return ["y"] * 3000

    @app.tool()
    def broken() -> str:
        raise RuntimeError("out of order")

    @app.tool()
    async def whoami(ctx: Context) -> str:
        request = ctx.request_context.request
        assert request is not None
        return str(request.headers.get("authorization"))

    return app


@contextlib.asynccontextmanager
async def served(*, old: bool = False, **options: Any) -> AsyncIterator[str]:
    """Serve `sample`, and yield its URL. One that is `old` does not know the newest revision."""
    app = sample().streamable_http_app(**options)

    async def before_2026(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if headers.get(b"mcp-protocol-version") == b"2026-07-28":
            await Response("Bad Request: unsupported version", 400)(scope, receive, send)
        else:
            await app(scope, receive, send)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            before_2026 if old else app, log_level="error", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            await task


@pytest.mark.parametrize(
    "options", [{}, {"old": True}, {"json_response": True}, {"old": True, "stateless_http": True}]
)
async def test_an_agent_calls_tools_over_http(options: dict[str, Any]) -> None:
    async with served(**options) as url:
        agent = agent_of({"name": "web", "url": url})
        first, second, third = await results(
            agent,
            ("web__add", {"a": 40, "b": 2}),
            ("web__broken", {}),
            ("web__picture", {}),
        )
    assert first == "42"
    assert second == "Error executing tool broken"
    assert "image/png" in str(third)


@pytest.mark.parametrize("json_response", [False, True])
async def test_of_many_parts_the_first_are_read(json_response: bool) -> None:
    async with served(json_response=json_response) as url:
        (text,) = await results(agent_of({"name": "web", "url": url}), ("web__parts", {}))
    assert text.endswith("[more than 1000 parts; the rest is left out]")
    assert text.count("y\n") == 1000


async def test_headers_are_sent_and_their_secrets_are_redacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_TOKEN", "t0ken-of-mine")
    async with served() as url:
        headers = {"Authorization": "Bearer ${WEB_TOKEN}"}
        agent = agent_of({"name": "web", "url": url, "headers": headers})
        assert await results(agent, ("web__whoami", {})) == ["Bearer [secret WEB_TOKEN]"]


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_answer_without_end_costs_one_result(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "MAX_MESSAGE", 200_000)
    async with served(json_response=as_json) as url:
        agent = agent_of({"name": "web", "url": url, "call_timeout": 20})
        first, second = await results(agent, ("web__large", {}), ("web__add", {"a": 1, "b": 2}))
    assert "the MCP server 'web'" in first
    assert len(first) < 1000
    assert second == "3"


async def test_a_url_where_nobody_listens_is_said_before_the_run() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mcp"
        with pytest.raises(ConfigError, match="the MCP server 'web' cannot be reached"):
            await results(agent_of({"name": "web", "url": url}), ("web__add", {}))


async def test_an_agent_calls_tools_of_a_program_that_is_written_with_the_sdk() -> None:
    paths = [path for path in sys.path if path.endswith("site-packages")]
    server = {
        "name": "sdk",
        "command": [sys.executable, "-c", SDK_SERVER],
        "env": {"PYTHONPATH": ":".join(paths)},
    }
    assert await results(agent_of(server), ("sdk__add", {"a": 1, "b": 2})) == ["3"]
