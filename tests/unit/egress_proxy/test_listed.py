"""What the allow-list proxy lets through, on real sockets, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from paddock.backends.egress import outside as outside_module
from paddock.backends.egress import proxy as proxy_module
from paddock.backends.egress.outside import Outside
from paddock.backends.egress.proxy import Proxy
from paddock.network import Allow
from tests.unit.egress_proxy.peers import DEADLINE, LOOPBACK, Call, Start, connect, get, proxy_to

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_a_listed_site_is_asked_and_its_answer_comes_back(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    proxy, outside = proxy_to(site)
    place = f"site.test:{site.port}"
    answer = await call(proxy).ask(get(f"http://{place}/x", place))
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
    assert site.asked == [
        b"GET /x HTTP/1.1\r\nHost: " + place.encode() + b"\r\nConnection: close\r\n\r\n"
    ]
    assert outside.looked_up == ["site.test"]
    (decision,) = proxy.log
    assert (decision.host, decision.port, decision.allowed) == ("site.test", site.port, True)


async def test_a_tunnel_carries_both_ways_and_what_was_sent_early(
    start_site: Start, call: Call
) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())

    site = await start_site(upper)
    client = call(proxy_to(site)[0])
    await client.say(connect(f"site.test:{site.port}") + b"early ")
    assert (await client.hear(39)).startswith(b"HTTP/1.1 200 ")
    await client.say(b"and late")
    client.socket.shutdown(socket.SHUT_WR)
    assert await client.hear() == b"EARLY AND LATE"


@pytest.mark.parametrize(
    "place", ["other.test:{port}", "site.test:25", "127.0.0.1:{port}", "[::1]:{port}"]
)
async def test_what_is_not_listed_is_refused_and_never_looked_up(
    place: str, start_site: Start, call: Call
) -> None:
    site = await start_site()
    proxy, outside = proxy_to(site)
    place = place.format(port=site.port)
    assert (await call(proxy).ask(connect(place))).startswith(b"HTTP/1.1 403 ")
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 403 ")
    assert outside.looked_up == []
    assert site.asked == []
    assert [decision.allowed for decision in proxy.log] == [False, False]
    assert all("not listed" in decision.reason for decision in proxy.log)


async def test_a_second_request_on_a_connection_is_not_passed_on(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"site.test:{site.port}"
    smuggled = get("http://other.test/", "other.test")
    once = get(f"http://{place}/", place)
    answer = await call(proxy_to(site)[0]).ask(once + smuggled + once)
    assert answer.count(b"HTTP/1.1") == 1
    assert len(site.asked) == 1


async def test_a_body_is_passed_on_and_no_byte_after_it(start_site: Start, call: Call) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        heard.put_nowait(await reader.readexactly(len(body)))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.write_eof()
        heard.put_nowait(await reader.read())

    site = await start_site(take)
    place = f"site.test:{site.port}"
    proxy, _ = proxy_to(site)
    chunks = b"3\r\nabc\r\n0\r\n\r\n"
    for kind, body in (("Content-Length: 5", b"12345"), ("Transfer-Encoding: chunked", chunks)):
        request = f"POST http://{place}/ HTTP/1.1\r\nHost: {place}\r\n{kind}\r\n\r\n".encode()
        client = call(proxy)
        await client.say(request + body + b"GET / HTTP/1.1\r\n\r\n")
        answer = await client.hear()
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n")
        await client.aclose()
        assert await asyncio.wait_for(heard.get(), DEADLINE) == body
        assert await asyncio.wait_for(heard.get(), DEADLINE) == b""


@pytest.mark.parametrize("body", [b"5\nabcde\r\n", b"0\r\nHost: other.test\r\n\r\n"])
async def test_a_body_that_could_be_read_in_two_ways_breaks_the_connection(
    body: bytes, start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"site.test:{site.port}"
    proxy, _ = proxy_to(site)
    request = f"POST http://{place}/ HTTP/1.1\r\nHost: {place}\r\nTransfer-Encoding: chunked"
    client = call(proxy)
    with contextlib.suppress(ConnectionResetError):
        assert await client.ask(request.encode() + b"\r\n\r\n" + body) == b""
    assert [decision.allowed for decision in proxy.log] == [True, False]
    assert site.asked == []


async def test_chunks_are_written_anew_and_what_only_the_proxy_reads_is_left_out(
    start_site: Start, call: Call
) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.set_result(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    site = await start_site(take)
    place = f"site.test:{site.port}"
    request = f"POST http://{place}/ HTTP/1.1\r\nHost: {place}\r\nTransfer-Encoding: Chunked"
    body = b'\r\n\r\n3;x="y" \r\nabc\r\n00002\r\nde\r\n000\r\n\r\n'
    assert b" 204 " in await call(proxy_to(site)[0]).ask(request.encode() + body)
    assert await asyncio.wait_for(heard, DEADLINE) == b"5\r\nabcde\r\n0\r\n\r\n"


async def test_a_name_that_leads_to_private_addresses_is_refused(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    addresses = ["10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
    names: dict[str, list[Sequence[str]]] = {
        f"n{at}.test": [[text]] for at, text in enumerate(addresses)
    }
    proxy, _ = proxy_to(site, "*.test", names=names)
    for name in names:
        answer = await call(proxy).ask(connect(f"{name}:443"))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"leads to" in answer
    assert not any(decision.allowed for decision in proxy.log)


async def test_a_private_address_among_public_ones_is_passed_over(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"mixed.test:{site.port}"
    proxy, _ = proxy_to(site, place, names={"mixed.test": [["10.0.0.1", "127.0.0.1"]]})
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 200 ")


async def test_a_name_that_changes_its_address_is_looked_up_once_for_each_request(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"twice.test:{site.port}"
    answers: list[Sequence[str]] = [["127.0.0.1"], ["192.168.0.1"]]
    proxy, outside = proxy_to(site, place, names={"twice.test": answers})
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 200 ")
    assert outside.looked_up == ["twice.test"]
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 403 ")


async def test_a_private_address_is_reached_if_it_is_listed_itself(
    start_site: Start, call: Call
) -> None:
    site = await start_site()
    place = f"127.0.0.1:{site.port}"
    proxy = Proxy(Allow(hosts=[place]))
    assert (await call(proxy).ask(get(f"http://{place}/", place))).startswith(b"HTTP/1.1 200 ")


def test_the_addresses_of_this_machine_are_not_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside_module, "CLOSED_V4", {})
    assert Outside().objection(LOOPBACK) == "this machine's own"
    assert Outside().objection(ip_address("192.0.2.77")) is None


async def test_real_names_are_looked_up(start_site: Start, call: Call) -> None:
    assert LOOPBACK in await Outside().lookup("localhost")
    site = await start_site()
    place = f"localhost:{site.port}"
    proxy = Proxy(Allow(hosts=[place]))
    answer = await call(proxy).ask(get(f"http://{place}/", place))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"loopback" in answer


async def test_the_log_keeps_the_last_decisions(start_site: Start) -> None:
    proxy, _ = proxy_to(await start_site())
    for at in range(proxy_module.LOG_SIZE + 5):
        proxy._note(f"n{at}.test", 1, "test", allowed=False)
    assert len(proxy.log) == proxy_module.LOG_SIZE
    assert proxy.log[0].host == "n5.test"


@pytest.mark.parametrize("network", ["127.0.0.0/8", "127.0.0.1/32"])
async def test_a_network_that_is_private_as_a_whole_is_reached_by_its_addresses(
    network: str, start_site: Start, call: Call
) -> None:
    site = await start_site()
    proxy = Proxy(Allow(hosts=[f"{network}:{site.port}"]))
    place = f"127.0.0.1:{site.port}"
    assert (await call(proxy).ask(get(f"http://{place}/", place))).endswith(b"page")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "96.0.0.0/3", "126.0.0.0/7"])
async def test_a_network_that_only_contains_private_addresses_leads_to_none(
    network: str, start_site: Start, call: Call
) -> None:
    site = await start_site()
    proxy = Proxy(Allow(hosts=[f"{network}:{site.port}"]))
    place = f"127.0.0.1:{site.port}"
    answer = await call(proxy).ask(get(f"http://{place}/", place))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"127.0.0.1 is loopback" in answer
    assert not site.asked
