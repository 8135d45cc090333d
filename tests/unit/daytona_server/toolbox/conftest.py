"""A toolbox on a loopback port, and the unmodified SDK in front of it."""

from __future__ import annotations

import asyncio
import os
import select
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from daytona import AsyncDaytona, DaytonaConfig  # noqa: TID253 - the SDK is what is served here

from paddock.testing.daytona.toolbox import Toolbox
from paddock.testing.daytona.toolbox.pipes import Outlet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from daytona import AsyncSandbox

DEADLINE = 60.0
"""Seconds for what takes milliseconds."""
LARGEST_BODY = 16 * 1024 * 1024
"""Bytes of a JSON body: a command's text may be a megabyte and more."""


class Bell:
    """A FIFO between a command and its test: who waits hears at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    async def hear(self) -> str:
        """What a command has written, as in ``echo $$ > bell``."""
        async with asyncio.timeout(DEADLINE), Outlet(os.dup(self._descriptor)) as outlet:
            return (await outlet.read()).decode().strip()

    def ring(self) -> None:
        """Let a command go on that waits in ``read x < bell``."""
        os.write(self._descriptor, b"\n")

    def close(self) -> None:
        os.close(self._descriptor)


async def wait_for_end(pid: int) -> None:
    """Return when there is no such process; fail if it does not end."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = await asyncio.to_thread(select.select, [watched], [], [], DEADLINE)
    finally:
        os.close(watched)
    assert ready, f"{pid} still runs"


def _sandbox(host: str) -> dict[str, Any]:
    return {
        "id": "box",
        "organizationId": "org",
        "name": "box",
        "user": "daytona",
        "env": {},
        "labels": {},
        "public": False,
        "networkBlockAll": False,
        "kvm": False,
        "target": "us",
        "cpu": 1,
        "gpu": 0,
        "memory": 1,
        "disk": 3,
        "state": "started",
        "toolboxProxyUrl": f"http://{host}/toolbox",
    }


def _application(toolbox: Toolbox) -> web.Application:
    async def get(request: web.Request) -> web.Response:
        return web.json_response(_sandbox(request.host))

    async def pass_on(request: web.Request) -> web.StreamResponse:
        return await toolbox.handle(request, "/" + request.match_info["path"])

    application = web.Application(client_max_size=LARGEST_BODY)
    application.router.add_get("/api/sandbox/box", get)
    application.router.add_route("*", "/toolbox/box/{path:.*}", pass_on)
    return application


@pytest.fixture
async def toolbox(tmp_path: Path) -> AsyncIterator[Toolbox]:
    """A toolbox that runs; at the end nothing of it does."""
    toolbox = Toolbox(tmp_path / "box", env={"OF_THE_BOX": "yes"}, image="any")
    await toolbox.start()
    try:
        yield toolbox
    finally:
        await toolbox.stop()


@pytest.fixture
async def address(toolbox: Toolbox) -> AsyncIterator[str]:
    """Where the toolbox is served, as ``host:port``."""
    runner = web.AppRunner(_application(toolbox), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await toolbox.stop()  # what is still open ends here, not by a time-out
        await runner.cleanup()


@pytest.fixture
async def sandbox(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncSandbox]:
    """The SDK's sandbox object in front of the toolbox."""
    monkeypatch.chdir(tmp_path)  # the SDK reads .env files of the current folder
    config = DaytonaConfig(
        api_key="key",
        api_url=f"http://{address}/api",
        target="us",
        connection_pool_maxsize=None,  # with a limit the SDK warns when it is near
    )
    async with AsyncDaytona(config) as client:
        yield await client.get("box")


@pytest.fixture
def bell(toolbox: Toolbox, home: Path) -> Iterator[Bell]:
    """``$HOME/bell``, which a command rings."""
    bell = Bell(home / "bell")
    yield bell
    bell.close()


@pytest.fixture
def gate(toolbox: Toolbox, home: Path) -> Iterator[Bell]:
    """``$HOME/gate``, at which a command waits for the test."""
    bell = Bell(home / "gate")
    yield bell
    bell.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The sandbox's work folder."""
    return tmp_path.resolve() / "box" / "home" / "daytona"


@pytest.fixture
def ended() -> Callable[[int], Awaitable[None]]:
    """Waits until there is no such process; fails if it does not end."""
    return wait_for_end
