"""`paddock` as a real process in a home of its own; a bench for images; a Daytona alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from paddock.backends.daytona import DaytonaBackend, service
from paddock.backends.docker.engine.client import Engine
from paddock.backends.docker.engine.features import features
from paddock.backends.docker.images.store import list_images
from paddock.testing.daytona import DaytonaServer
from tests.e2e.image_bench import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import Require

PATIENCE = 60
"""Seconds for one command, on two cores that may be busy with other tests."""


@dataclass(frozen=True)
class Paddock:
    """Runs `paddock` commands. `home` is empty at first; so is the directory they run in."""

    home: Path
    cwd: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE")
        here = {name: os.environ[name] for name in kept if name in os.environ}
        return {**here, "HOME": str(self.home), "COLUMNS": "120"}

    def __call__(
        self, *args: str, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        settings = {"stdin": subprocess.DEVNULL, **options}
        if "input" in settings:
            del settings["stdin"]
        return subprocess.run(
            self.command(*args),
            cwd=self.cwd,
            env=self.environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **settings,
        )

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        return subprocess.Popen(
            self.command(*args),
            cwd=self.cwd,
            env=self.environment | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    @staticmethod
    def command(*args: str) -> list[str]:
        return [sys.executable, "-m", "paddock", *args]


@pytest.fixture
async def control_groups(docker_engine: Engine, require: Require) -> None:
    """Skips where the engine cannot limit, pause and measure containers: a rootless one may not."""
    require("control groups", await features(docker_engine), "the engine has none")


@pytest.fixture
def paddock(tmp_path: Path) -> Paddock:
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir()
    cwd.mkdir()
    return Paddock(home, cwd)


@pytest.fixture
async def bench(base_image: str) -> AsyncIterator[Bench]:
    """Where a test builds images; fails the test that leaves one of its own on the engine."""
    bench = Bench(await Engine.connect(), base_image)
    yield bench
    await bench.tidy()
    left = {info.reference for info in await list_images(bench.engine)}
    assert not left & bench.made


LETTING_GO = 60.0
"""Seconds in which a creation that failed has removed what it made, on a machine that is busy."""
STORM = 300
"""Requests of one test: the one that has most, downloads under each kind of fault, has 113."""


@dataclass(frozen=True)
class Daytona:
    """A Daytona of this test alone, and a recipe for sandboxes in it."""

    server: DaytonaServer
    recipe: DaytonaBackend

    @property
    def living(self) -> list[str]:
        """The ids of the sandboxes that nobody has deleted."""
        found = self.server.sandboxes.values()
        return [each.id for each in found if each.desired != "destroyed"]

    async def empty(self) -> None:
        """Wait until no sandbox is left; fails if one is there that nobody deletes."""
        await self.server.settled()
        assert not self.server.sandboxes

    async def let_go(self) -> None:
        """Wait until no client is in use: creations that failed may still be removing."""
        async with asyncio.timeout(LETTING_GO):
            while service._services.get(asyncio.get_running_loop()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def _recorded(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
    """Every client that is made from now on, the SDK's and the server's own."""
    clients: list[aiohttp.ClientSession] = []
    make = aiohttp.ClientSession.__init__

    def record(client: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        make(client, *args, **options)
        clients.append(client)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", record)
    return clients


@pytest.fixture
async def daytona(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daytona]:
    """The real SDK and a fresh server, on which nothing of the test may be left, and no client.

    And nobody may storm it, whatever faults it has.
    """
    from daytona import DaytonaConfig

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    clients = _recorded(monkeypatch)
    async with DaytonaServer() as server:
        config = DaytonaConfig(api_key=server.api_key, api_url=server.api_url, target="us")
        # A snapshot is there at once; an image's build is looked at once a second. Its
        # sandboxes run on this machine, and find the programs of this one.
        recipe = DaytonaBackend(
            config=config,
            snapshot="daytonaio/sandbox:latest",
            env_vars={"PATH": os.environ["PATH"]},
        )
        daytona = Daytona(server, recipe)
        yield daytona
        await daytona.let_go()
        await daytona.empty()
        assert server.violations == []
        assert len(server.requests) < STORM
    assert [client for client in clients if not client.closed] == []
