"""The end of the server, and its command line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    AsyncDaytona,
    DaytonaConfig,
)

from paddock.testing.daytona import DaytonaServer

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 60.0  # seconds for what takes milliseconds
HOUR = 3600.0


async def test_nothing_is_left_when_the_server_ends(
    connected: Callable[[DaytonaServer], AsyncDaytona],
) -> None:
    async with DaytonaServer() as server, connected(server) as daytona:
        sandbox = await daytona.create()
        told = (await sandbox.process.exec("pwd; sleep 600 >/dev/null 2>&1 & echo $!")).result
        folder, pid = told.split()
        assert await asyncio.to_thread(Path(folder).is_dir)
        assert server.requests[-1].sandbox == sandbox.id
    assert not await asyncio.to_thread(Path(folder).exists)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not server.sandboxes


async def test_who_reads_a_build_log_is_let_go_when_the_server_ends(
    other_server: Callable[..., DaytonaServer],
) -> None:
    began = asyncio.Event()

    async def follow(server: DaytonaServer, session: aiohttp.ClientSession) -> str:
        body = {"buildInfo": {"dockerfileContent": "FROM a\nRUN b\n"}}
        async with session.post(f"{server.api_url}/sandbox", json=body) as answer:
            identity = (await answer.json())["id"]
        url = f"{server.api_url}/sandbox/{identity}/build-logs?follow=true"
        async with session.get(url) as answer:
            began.set()
            return await answer.text()

    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        async with other_server(delays={"building_snapshot": HOUR}) as server:
            session.headers.update(
                {
                    "Authorization": f"Bearer {server.api_key}",
                    "X-Daytona-Source": "test",
                    "X-Daytona-SDK-Version": "0.226.1",
                }
            )
            reader = asyncio.create_task(follow(server, session))
            await began.wait()
        assert await reader == ""


async def test_the_command_line_serves_until_it_is_interrupted() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paddock.testing.daytona", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        lines = [(await process.stdout.readline()).decode().split() for _ in range(3)]
        told = dict(line[1].split("=", 1) for line in lines)
        async with AsyncDaytona(
            DaytonaConfig(
                api_key=told["DAYTONA_API_KEY"], api_url=told["DAYTONA_API_URL"], target="us"
            )
        ) as daytona:
            sandbox = await daytona.create()
            folder = (await sandbox.process.exec("pwd")).result.strip()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert not await asyncio.to_thread(Path(folder).exists)
