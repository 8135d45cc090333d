"""An engine of the tests' own that is restarted or killed under a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import ExecResult, SandboxLost
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.engine import Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Require

pytestmark = [pytest.mark.docker, pytest.mark.rows("C8")]

PATIENCE = 60.0
"""Seconds for an engine to start, take an image or end, on a busy machine."""


@dataclass
class PrivateEngine:
    """A Docker Engine with everything that it has in one folder, and a network of its own."""

    folder: Path
    options: tuple[str, ...]
    _process: asyncio.subprocess.Process | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/socket"

    @property
    def containerd(self) -> Path:
        """Where the number of its helper is, which outlives it when it is killed."""
        return self.folder / "exec" / "containerd" / "containerd.pid"

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *("unshare", "--net", "dockerd", "--host", self.host, "--bridge=none"),
                *("--iptables=false", "--data-root", f"{self.folder}/data"),
                *("--exec-root", f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid"),
                *self.options,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.folder / "log").read_text()[-2000:]
        with contextlib.suppress(EngineError):
            engine = await Engine.connect(self.host)
            await engine.call("asking", engine.client.ping)
            return True
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()
        if number == signal.SIGKILL:  # what it would have removed, or would start anew
            await asyncio.to_thread(_end, self.containerd)
            (self.folder / "pid").unlink(missing_ok=True)

    async def remove(self) -> None:
        """End it, what it has left running, and its folder."""
        assert self._process is not None
        if self._process.returncode is None:
            await self.stop()
        await asyncio.to_thread(_end, self.containerd)
        await asyncio.to_thread(_remove, self.folder)


def _remove(folder: Path) -> None:
    """Remove a folder with all that is mounted below it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(folder)


def _end(pidfile: Path) -> None:
    """Kill the process whose number is in a file, and wait until it is gone."""
    try:
        process = int(pidfile.read_text())
        watched = os.pidfd_open(process)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        assert select.select([watched], [], [], PATIENCE)[0], f"{process} does not end"
    finally:
        os.close(watched)
        pidfile.unlink(missing_ok=True)


@pytest.fixture(params=[(), ("--live-restore",)], ids=["plain", "live-restore"])
async def private_engine(
    request: pytest.FixtureRequest, base_image: str, require: Require
) -> AsyncIterator[PrivateEngine]:
    require("dockerd", os.geteuid() == 0 and shutil.which("dockerd"), "needs root and dockerd")
    # The path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="paddock-engine-", dir="/tmp"))
    engine = PrivateEngine(folder, request.param)
    try:
        await engine.start()
        await asyncio.to_thread(_copy_image, base_image, engine.host)
        yield engine
    finally:
        await engine.remove()


def _copy_image(name: str, host: str) -> None:
    with subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE) as saving:
        subprocess.run(
            ["docker", "--host", host, "load"],
            stdin=saving.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE,
        )


async def test_a_restarted_engine_is_a_lost_sandbox_or_none_at_all_and_never_a_hang(
    private_engine: PrivateEngine,
) -> None:
    recipe = DockerBackend(host=private_engine.host, network="none")
    for how in (signal.SIGTERM, signal.SIGKILL):
        async with recipe.sandbox() as sandbox:
            waiting = asyncio.create_task(sandbox.exec("sleep 4; echo done"))
            assert (await sandbox.exec("echo here")).stdout == "here\n"
            await private_engine.stop(how)
            await private_engine.start()
            async with asyncio.timeout(PATIENCE):
                (told,) = await asyncio.gather(waiting, return_exceptions=True)
            if isinstance(told, SandboxLost):
                assert re.search("engine|container", told.reason, re.IGNORECASE)
                assert sandbox.lost
            else:
                assert isinstance(told, ExecResult)
                assert told.stdout == "done\n"
        assert await _containers(private_engine) == []
    async with recipe.sandbox() as sandbox:  # the engine is as good as new
        assert (await sandbox.exec("echo again")).stdout == "again\n"


async def _containers(private_engine: PrivateEngine) -> list[object]:
    engine = await Engine.connect(private_engine.host)
    found: list[object] = await engine.call("listing", engine.client.containers, all=True)
    return found
