"""Sites and clients of a proxy, which end with their test."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.unit.egress_proxy.peers import Client, Handler, Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from paddock.backends.egress.proxy import Proxy


@pytest.fixture
async def start_site() -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(handler: Handler | None = None) -> Site:
            site = Site(handler)
            server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            site.port = server.sockets[0].getsockname()[1]
            return site

        yield start


@pytest.fixture
async def call() -> AsyncIterator[Callable[[Proxy], Client]]:
    made: list[Client] = []

    def call(proxy: Proxy) -> Client:
        made.append(Client(proxy))
        return made[-1]

    yield call
    for client in made:
        await client.aclose()
