"""Who is let in by the conformance server, and where: keys, previews, signed URLs, ssh."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest
import yarl
from aiohttp import web
from daytona import (  # noqa: TID253 - the SDK is what is served here
    AsyncDaytona,
    DaytonaAuthenticationError,
    DaytonaConfig,
)

from paddock.testing.daytona import DaytonaServer, Schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LEFT_OUT = {
    "create_backup",
    "deactivate_snapshot",
    "get_organization_by_sandbox_id",
    "get_region_quota_by_sandbox_id",
    "get_sandbox_ancestors",
    "get_sandbox_forks",
    "get_sandbox_logs",
    "get_sandbox_parent",
    "get_sandbox_trace_spans",
    "get_sandbox_traces",
    "get_sandboxes_for_runner",
    "resolve_sandbox_secrets",
    "update_sandbox_secrets",
    "update_sandbox_state",
}


async def test_a_wrong_key_and_a_stranger_are_refused(server: DaytonaServer) -> None:
    async with AsyncDaytona(
        DaytonaConfig(api_key="wrong", api_url=server.api_url, target="us")
    ) as stranger:
        with pytest.raises(DaytonaAuthenticationError, match="Invalid credentials"):
            await stranger.create()
    async with aiohttp.ClientSession() as session:
        key = {"Authorization": f"Bearer {server.api_key}"}
        async with session.get(f"{server.api_url}/sandbox", headers=key) as answer:
            assert answer.status == 401
            assert "X-Daytona-Source" in (await answer.json())["message"]


async def test_what_is_not_of_the_sdk_is_recorded_as_a_violation(
    other_server: Callable[..., DaytonaServer],
) -> None:
    async with other_server() as server, aiohttp.ClientSession() as session:
        headers = {
            "Authorization": f"Bearer {server.api_key}",
            "X-Daytona-Source": "test",
            "X-Daytona-SDK-Version": "0",
        }
        url = f"{server.api_url}/sandbox"
        async with session.post(url, headers=headers, json={"colour": "red"}) as answer:
            assert answer.status == 200  # as the service answers
        (violation,) = server.violations
        assert "does not know ['colour']" in violation


async def test_what_the_server_leaves_out_is_known_and_says_so(server: DaytonaServer) -> None:
    """Fails when a new version of the SDK brings operations: serve them, or add them here."""
    kept = (
        "/sandbox",
        "/snapshots",
        "/volumes",
        "/object-storage",
        "/warm-pools",
        "/shared-",
        "/config",
    )
    known = {each.name for each in Schema.control().operations if each.path.startswith(kept)}
    assert server.served <= known
    assert known - server.served == LEFT_OUT
    async with aiohttp.ClientSession() as session:
        assert await _status(session, f"{server.api_url}/sandbox/x/ancestors") == 501
        assert await _status(session, f"{server.api_url}/nothing") == 404


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A port of this machine with something behind it."""

    async def greet(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade") != "websocket":
            return web.Response(text=f"{request.method} {request.path_qs}")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", greet)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_preview_needs_its_token_and_passes_everything_on(
    daytona: AsyncDaytona, port: int
) -> None:
    sandbox = await daytona.create()
    link = await sandbox.get_preview_link(port)
    headers = {"x-daytona-preview-token": link.token}
    async with aiohttp.ClientSession() as session:
        url = yarl.URL(f"{link.url}/a%2Fb?c=d%26e", encoded=True)
        async with session.get(url, headers=headers) as answer:
            assert await answer.text() == "GET /a%2Fb?c=d%26e"
        async with session.get(link.url) as answer:
            assert answer.status == 401
        async with session.ws_connect(f"{link.url}/ws", headers=headers) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "HELLO"
        await sandbox.set_public(True)
        async with session.get(link.url) as answer:
            assert answer.status == 200


async def test_a_signed_preview_holds_until_it_expires(
    server: DaytonaServer, daytona: AsyncDaytona, port: int
) -> None:
    sandbox = await daytona.create()
    signed = await sandbox.create_signed_preview_url(port, expires_in_seconds=60)
    later = await sandbox.create_signed_preview_url(port, expires_in_seconds=60)
    async with aiohttp.ClientSession() as session:
        assert await _status(session, signed.url) == 200
        await sandbox.expire_signed_preview_url(port, signed.token)
        assert await _status(session, signed.url) == 401
        assert await _status(session, later.url) == 200
        server.clock.advance(61)
        assert await _status(session, later.url) == 401


async def _status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status


async def test_a_file_url_that_the_sdk_signs_needs_no_key(daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create()
    await sandbox.process.exec("content")
    url = await sandbox.download_url("/any")
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert await answer.read() == b"content"
        assert await _status(session, url.replace("any", "other")) == 403


async def test_ssh_access_is_given_checked_and_taken_back(daytona: AsyncDaytona) -> None:
    sandbox = await daytona.create()
    access = await sandbox.create_ssh_access(5)
    assert access.token in access.ssh_command
    assert (await sandbox.validate_ssh_access(access.token)).valid
    await sandbox.revoke_ssh_access(access.token)
    assert not (await sandbox.validate_ssh_access(access.token)).valid


async def test_without_the_sdk_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["socketio"] = None
from paddock.errors import MissingDependency
try:
    import paddock.testing.daytona
except MissingDependency as error:
    print(error)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert b"paddock[daytona]" in told
