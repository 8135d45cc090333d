"""A sandbox with an allow list that we enforce: what is listed passes. What gets nowhere is in
`test_escapes`; what is enforced by others, and what is refused, in `test_policies`.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.local import LocalBackend
from paddock.errors import Unsupported
from paddock.network import Allow
from paddock.sandbox import Capability
from tests.contract.conftest import WITHOUT_PYTHON
from tests.contract.network.sites import DEADLINE, FETCH, Site, confined, python

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.sandbox import Sandbox
    from tests.conftest import Require


async def test_without_isolation_an_allow_list_is_unsupported() -> None:
    backend = LocalBackend(isolation="none", network=Allow(hosts=["example.org"]))
    with pytest.raises(Unsupported, match="Allow"):
        await backend.create()


async def test_without_a_guest_there_is_neither_an_allow_list_nor_a_url(
    base_image: str,
) -> None:
    backend = DockerBackend(image=WITHOUT_PYTHON, network="none")
    with pytest.raises(Unsupported, match="Allow"):
        await confined(backend).create()
    async with backend.sandbox() as sandbox:
        assert not {Capability.URL, Capability.NETWORK_ALLOWLIST} & sandbox.capabilities
        with pytest.raises(Unsupported, match="url"):
            await sandbox.url(80)


async def test_a_listed_site_is_reached_by_the_usual_means(sandbox: Sandbox, site: Site) -> None:
    assert Capability.NETWORK_ALLOWLIST in sandbox.capabilities
    urls = [f"http://{name}:{site.port}/x" for name in ("site.test", "SITE.test", "site.test.")]
    result = await python(sandbox, FETCH, *urls)
    assert result.stdout == "page /x\n" * 3
    assert [(seen.host, seen.port, seen.allowed) for seen in sandbox.network_log] == [
        ("site.test", site.port, True)
    ] * 3


@pytest.mark.parametrize("backend", ["local-bubblewrap"], indirect=True)
async def test_curl_reaches_a_listed_site_and_no_other(
    sandbox: Sandbox, site: Site, require: Require
) -> None:
    require("curl", shutil.which("curl"), "it is not installed")
    url = f"http://site.test:{site.port}/y"
    for options in ([], ["--proxytunnel"]):
        result = await sandbox.exec(["curl", "-sS", *options, url], timeout=DEADLINE)
        assert result.stdout == "page /y", result.stderr
    result = await sandbox.exec(
        ["curl", "-sS", "--proxytunnel", f"http://other.test:{site.port}/"], timeout=DEADLINE
    )
    assert not result.ok
    assert "403" in result.stderr


async def test_what_is_not_listed_is_refused_and_logged(sandbox: Sandbox, site: Site) -> None:
    result = await python(
        sandbox, FETCH, f"http://other.site.test:{site.port}/", "http://site.test/"
    )
    assert result.stdout == (
        f"403 paddock: other.site.test:{site.port} is not listed\n"
        "403 paddock: site.test:80 is not listed\n"
    )
    assert [(seen.host, seen.allowed) for seen in sandbox.network_log] == [
        ("other.site.test", False),
        ("site.test", False),
    ]
    assert site.visits == 0


async def test_a_redirect_leads_nowhere_else(
    sandbox: Sandbox, site: Site, names: dict[str, list[str]]
) -> None:
    names["canary.test"] = ["127.0.0.1"]
    result = await python(sandbox, FETCH, f"http://site.test:{site.port}/away")
    assert result.stdout == f"403 paddock: canary.test:{site.port} is not listed\n"
    assert site.visits == 1


async def test_a_name_that_changes_its_address_gains_nothing(
    sandbox: Sandbox, site: Site, names: dict[str, list[str]]
) -> None:
    names["site.test"] = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1"]
    result = await python(sandbox, FETCH, *[f"http://site.test:{site.port}/"] * 4)
    lines = result.stdout.splitlines()
    assert lines[0] == "page /"
    assert [line.split(" (")[0] for line in lines[1:]] == [
        "403 paddock: site.test leads to 169.254.169.254",
        "403 paddock: site.test leads to 10.0.0.1",
        "403 paddock: site.test leads to ::1",
    ]
    assert site.visits == 1


async def test_an_empty_list_is_no_network(
    backend: DockerBackend | LocalBackend, site: Site
) -> None:
    async with confined(backend).sandbox() as sandbox:
        result = await python(sandbox, FETCH, f"http://site.test:{site.port}/")
        assert result.stdout.startswith("403 ")
    assert site.visits == 0


async def test_servers_inside_are_reached_without_the_proxy(sandbox: Sandbox) -> None:
    program = """
import http.server, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for host in ("127.0.0.1", "localhost"):
    print(urllib.request.urlopen("http://%s:%d/" % (host, server.server_port)).status)
"""
    assert (await python(sandbox, program)).stdout == "200\n200\n"
    assert sandbox.network_log == ()


async def test_many_connections_out_at_once(sandbox: Sandbox, site: Site) -> None:
    program = """
import sys, threading, urllib.request
def fetch(number):
    url = sys.argv[1] + str(number)
    assert urllib.request.urlopen(url, timeout=60).read().decode() == "page /%d" % number
    print("ok")
threads = [threading.Thread(target=fetch, args=(number,)) for number in range(150)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    result = await python(sandbox, program, f"http://site.test:{site.port}/")
    assert result.stdout == "ok\n" * 150, result.stderr
    assert site.visits == 150


async def test_a_lost_sandbox_leaves_no_connection_out(
    sandbox: Sandbox, site: Site, kill: Callable[[Sandbox], Awaitable[None]]
) -> None:
    program = """
import http.client, os, sys
proxy = os.environ["http_proxy"].split("//")[1]
connection = http.client.HTTPConnection(proxy)
connection.set_tunnel("site.test", int(sys.argv[1]))
connection.connect()
print("connected", flush=True)
sys.stdin.read()
"""
    async with await sandbox.start(["python3", "-c", program, str(site.port)]) as process:
        await asyncio.wait_for(anext(aiter(process.output())), DEADLINE)
        assert not site.ended.is_set()
        await kill(sandbox)
        await asyncio.wait_for(site.ended.wait(), DEADLINE)


async def test_variables_of_the_recipe_win(backend: DockerBackend | LocalBackend) -> None:
    recipe = replace(confined(backend), env_vars={"HTTP_PROXY": "http://mine:1"})
    async with recipe.sandbox() as sandbox:
        told = (await sandbox.exec("echo $HTTP_PROXY $http_proxy")).stdout.split()
    assert told == ["http://mine:1", "http://127.0.0.1:3128"]
