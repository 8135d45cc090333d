"""How what goes through the allow-list proxy ends, on real sockets, when somebody fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from paddock.backends.egress import proxy as proxy_module
from tests.unit.egress_proxy.peers import DEADLINE, Call, Start, connect, get, proxy_to


async def test_what_cannot_be_reached_is_told_as_that(start_site: Start, call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    site = await start_site()
    proxy, _ = proxy_to(site, f"site.test:{port}", "nowhere.test")
    assert b"502 Bad Gateway" in await call(proxy).ask(connect(f"site.test:{port}"))
    assert b"no such name" in await call(proxy).ask(connect("nowhere.test:443"))


async def test_an_answer_that_is_not_http_is_not_passed_on(start_site: Start, call: Call) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.test ESMTP\r\n\r\n")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    for handler in (babble, silent):
        site = await start_site(handler)
        place = f"site.test:{site.port}"
        answer = await call(proxy_to(site)[0]).ask(get(f"http://{place}/", place))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"ESMTP" not in answer


async def test_an_answer_that_was_cut_off_does_not_look_whole(
    start_site: Start, call: Call
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhal")
        await writer.drain()
        await reader.read(1)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    site = await start_site(cut)
    client = call(proxy_to(site)[0])
    await client.say(connect(f"site.test:{site.port}"))
    assert b" 200 " in await client.hear(39)
    await client.say(b"GET / HTTP/1.1\r\n\r\n")
    assert (await client.hear(22)).endswith(b"hal")
    await client.say(b"x")
    with pytest.raises(ConnectionResetError):
        await client.hear()


async def test_a_client_that_goes_away_takes_its_request_along(
    start_site: Start, call: Call
) -> None:
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        gone.set()

    reached = asyncio.Event()
    site = await start_site(wait)
    client = call(proxy_to(site)[0])
    place = f"site.test:{site.port}"
    await client.say(connect(place))
    assert b" 200 " in await client.hear(39)
    await client.say(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(reached.wait(), DEADLINE)
    client.socket.close()
    await asyncio.wait_for(gone.wait(), DEADLINE)


async def test_a_head_that_does_not_come_ends_at_a_deadline(
    start_site: Start, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_module, "HEAD_DEADLINE", 0.05)
    client = call(proxy_to(await start_site())[0])
    assert (await client.ask(b"GET http://site.test/ HTTP/1.1\r\n")).startswith(b"HTTP/1.1 408 ")


async def test_a_cancelled_request_leaves_no_connection(start_site: Start, call: Call) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        gone.set()

    site = await start_site(wait)
    place = f"site.test:{site.port}"
    client = call(proxy_to(site)[0])
    await client.say(get(f"http://{place}/", place))
    await asyncio.wait_for(reached.wait(), DEADLINE)
    client.served.cancel()
    await asyncio.wait_for(gone.wait(), DEADLINE)
    await asyncio.wait([client.served])
    client.served = asyncio.ensure_future(asyncio.sleep(0))
