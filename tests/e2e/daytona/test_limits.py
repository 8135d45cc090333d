"""What the service refuses because it is asked too often, and a service that is not there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from daytona import DaytonaConfig  # noqa: TID253 - the account of a server of ours

from paddock.backends.daytona import service
from paddock.errors import SandboxError
from paddock.testing.daytona import DaytonaServer, Status, Throttler
from tests.e2e.daytona.served import CREATE, DEADLINE, EXECUTE, made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.daytona import DaytonaBackend
    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from tests.e2e.conftest import Daytona

NOWHERE = "http://127.0.0.1:9/api"
"""Nothing listens on the port of discard."""


@asynccontextmanager
async def limited(
    recipe: DaytonaBackend, *throttlers: Throttler
) -> AsyncIterator[tuple[DaytonaServer, DaytonaBackend]]:
    """A server that refuses what is too much, and the recipe for it."""
    async with DaytonaServer(throttlers=throttlers) as server:
        config = DaytonaConfig(api_key=server.api_key, api_url=server.api_url, target="us")
        yield server, replace(recipe, config=config)
        await server.settled()
        assert not server.sandboxes


async def test_all_of_many_are_made_with_one_refused_request_for_each_wait(
    daytona: Daytona,
) -> None:
    throttler = Throttler(name="sandbox-create", match=CREATE, limit=3, seconds=1.5)
    async with limited(daytona.recipe, throttler) as (server, recipe):
        made = await asyncio.gather(*(recipe.create() for _ in range(8)))
        created = [
            each for each in server.requests if (each.method, each.route) == ("POST", "/sandbox")
        ]
        await asyncio.gather(*(sandbox.aclose() for sandbox in made))
        assert len({sandbox.id for sandbox in made}) == 8
        assert sum(each.status == 200 for each in created) == 8
        # Five wait once, and the two that are refused again wait twice.
        assert 5 <= sum(each.status == 429 for each in created) <= 8 + 2
        assert server.count("GET", "/sandbox/paddock-.*") == 0  # a refusal made nothing


async def test_a_limit_on_looks_while_one_is_made_is_waited_out(daytona: Daytona) -> None:
    throttler = Throttler(name="authenticated", match="GET /api/sandbox.*", limit=3, seconds=1.0)
    async with limited(daytona.recipe, throttler) as (server, recipe):
        server._fleet.delays["creating"] = 1.5
        async with made(recipe) as sandbox:
            assert (await sandbox.exec("echo fine")).stdout == "fine\n"
        assert server.count("POST", "/sandbox") >= 1


async def test_one_that_would_have_to_wait_too_long_fails_at_once(daytona: Daytona) -> None:
    headers = {"Retry-After-sandbox-create": "3600"}
    daytona.server.faults.add(match=CREATE, kind=Status(status=429, headers=headers))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="asked too often, the next answer in 3600 s"):
            await daytona.recipe.create()
    assert daytona.server.count("POST", "/sandbox") == 1


async def test_a_call_waits_longer_than_failures_are_repeated(
    daytona: Daytona, sandbox: DaytonaSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.1)
    headers = {"Retry-After-authenticated": "1", "Retry-After": "3600"}
    kind = Status(status=429, headers=headers)
    daytona.server.faults.add(match=EXECUTE, kind=kind, times=2)
    daytona.server.faults.add(match=EXECUTE, kind=Status(status=502), after=2)
    assert (await sandbox.exec("echo fine")).stdout == "fine\n"


def command_line(*arguments: str, url: str = NOWHERE) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "paddock", *arguments],
        env={"DAYTONA_API_KEY": "x", "DAYTONA_API_URL": url},
        capture_output=True,
        text=True,
        timeout=DEADLINE * 2,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_service_that_is_not_there_is_one_line_with_its_address() -> None:
    commands = ["exec --backend daytona -- true", "gc --backend daytona", "ls --backend daytona"]
    commands += ["image list --backend daytona", "rm --backend daytona x"]
    with ThreadPoolExecutor(len(commands)) as threads:  # each of them tries for some seconds
        done = [*threads.map(lambda command: command_line(*command.split()), commands)]
    for command, (code, out, err) in zip(commands, done, strict=True):
        assert (code, out) == (1, ""), command
        told = [line for line in err.splitlines() if "making the sandbox" not in line]
        assert len(told) == 1, err
        assert f"Daytona cannot be reached at {NOWHERE}" in told[0]


async def test_a_service_that_takes_connections_and_answers_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, daytona: Daytona
) -> None:
    monkeypatch.setattr(service, "ANSWERING", 0.5)
    open_connections: list[asyncio.StreamWriter] = []

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.append(writer)

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config: Any = DaytonaConfig(
            api_key="x", api_url=f"http://127.0.0.1:{port}/api", target="us"
        )
        recipe = replace(daytona.recipe, config=config)
        async with asyncio.timeout(DEADLINE):
            for call in (recipe.create, recipe.gc, recipe.list):
                with pytest.raises(SandboxError, match=rf"cannot be reached at \S+:{port}/api"):
                    await call()
        for writer in open_connections:
            writer.close()
            await writer.wait_closed()
