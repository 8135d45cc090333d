"""Who gets a connection to the server, and that its token is told to nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import websockets

from paddock.errors import ConfigError
from paddock.runtime.remote.server import RuntimeServer
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import Talker, invocation

if TYPE_CHECKING:
    from tests.unit.runtime.remote.conftest import Serve


async def refused(url: str, **options: Any) -> int:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(url, **options)
    return int(caught.value.response.status_code)


async def refused_raw(port: int, header: bytes) -> int:
    """The status for a header that no library of clients sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        + header
        + b"\r\n\r\n"
    )
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


@pytest.mark.rows("U-30", "N-16")
async def test_only_who_has_the_token_gets_in(serve: Serve) -> None:
    async with serve() as server:
        bare = f"ws://127.0.0.1:{server.port}"
        assert server.token is not None
        assert len(server.token) > 30
        assert await refused(bare) == 401
        assert await refused(f"{bare}/?token=wrong") == 401
        assert await refused(f"{bare}/?token=%E9%ff") == 401
        assert await refused_raw(server.port, b"Authorization: Bearer \xff\xfe") == 401
        assert await refused(bare, additional_headers={"Authorization": "Bearer wrong"}) == 401
        async with Talker(f"{bare}/any/path?token={server.token}") as talker:
            assert (await talker.ask(invocation("ECHO:in")))["data"]["text"] == "in"
        given = {"Authorization": f"Bearer {server.token}"}
        async with Talker(bare, additional_headers=given) as talker:
            assert (await talker.ask(invocation("ECHO:in")))["data"]["text"] == "in"


@pytest.mark.rows("U-30", "N-16")
async def test_a_web_page_gets_in_only_if_it_is_allowed(serve: Serve) -> None:
    async with serve(allowed_origins=["https://mine.test"]) as server:
        assert await refused(server.url, origin="https://evil.test") == 403
        async with Talker(server.url, origin="https://mine.test") as talker:
            await talker.ask(invocation("ECHO:in"))


@pytest.mark.rows("U-30")
async def test_without_a_token_only_loopback_is_served(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        RuntimeServer(Lab(), host="0.0.0.0", token=False)
    async with serve(token=False) as server, Talker(server.url) as talker:
        assert "token" not in server.url
        await talker.ask(invocation("ECHO:in"))


@pytest.mark.rows("U-30")
async def test_the_token_is_not_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serve() as server, Talker(server.url) as talker:
        await talker.ask(invocation("ECHO:in"))
        token = str(server.token)
    logged = [
        record for record in caplog.records if not record.name.startswith("websockets.client")
    ]
    assert logged
    assert token not in "".join(record.getMessage() for record in logged)
