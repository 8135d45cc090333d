"""The contract tests run over every backend, and over every isolation level of the local one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import DaytonaBackend
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.build import ensure
from paddock.backends.docker.engine import Engine
from paddock.backends.docker.fallback.sandbox import FallbackSandbox
from paddock.backends.docker.sandbox import DockerSandbox
from paddock.backends.local import LocalBackend, LocalSandbox, probe
from paddock.image import Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox
    from paddock.testing.daytona import DaytonaServer

WITHOUT_PYTHON = Image.from_registry("paddock:base").run_commands(
    "mkdir -p /opt/python/bin && mv /usr/bin/python3* /opt/python/bin"
)
"""Its Python is where an engine that starts a container does not look, and commands that are
told do; so the tests of any backend can be run in it."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/opt/python/bin"

LEAVING = 5.0
"""Seconds in which a server of ours has removed what it was told to."""
BACKENDS: dict[str, Backend] = {
    "docker": DockerBackend(network="none"),
    "local-none": LocalBackend(isolation="none"),
    "local-bubblewrap": LocalBackend(isolation="bubblewrap"),
}


NOT_WITHOUT_PYTHON = {
    "test_exec.test_long_output_keeps_head_and_tail_and_spills_whole": "there is no spill file",
    "test_exec.test_a_line_of_a_gigabyte_is_bounded": "there is no spill file",
    "test_tools.test_bash_output_is_bounded_and_tells_where_the_rest_is": "there is no spill file",
    "test_process.test_stdin_of_a_command_that_has_ended_*": "the engine does not tell",
    "test_tools.test_[!b]*": "slow; such a tool is its method of the files, which is tested",
    "test_cancellation.*": "slow; each step of it is a call of the engine",
    "test_pool.*": "slow; a pool does not know how a sandbox is made",
}
"""Tests that an image without Python is not given, and why. Those that it could not pass are
the differences of ``docs/images-without-python.md``."""


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this test's sandboxes leave behind is told apart from everybody else's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(params=["daytona", *sorted({*BACKENDS, "docker-no-python"})])
async def backend(
    request: pytest.FixtureRequest, require: Callable[[str, bool, str], None]
) -> AsyncIterator[Backend]:
    """One backend's recipe; skipped, with the reason, where this machine cannot run it."""
    if request.param == "daytona":
        with _daytona(request.getfixturevalue("daytona_server")) as recipe:
            yield recipe
        return
    if request.param.startswith("docker"):
        request.getfixturevalue("base_image")
    if request.param == "docker-no-python":
        if reason := _why_not_without_python(request):
            pytest.skip(reason)
        image = await ensure(await Engine.connect(), WITHOUT_PYTHON)
        yield DockerBackend(image=image, network="none", env_vars={"PATH": PATH})
        return
    if request.param == "local-bubblewrap":
        found = await probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    yield BACKENDS[request.param]


@contextlib.contextmanager
def _daytona(server: DaytonaServer) -> Iterator[DaytonaBackend]:
    """The real SDK and a server of ours, on which nothing of the test may be left.

    With a key in the environment it is the account of that key instead.
    """
    from daytona import DaytonaConfig

    if "DAYTONA_API_KEY" in os.environ:
        yield DaytonaBackend()
        return
    config = DaytonaConfig(api_key=server.api_key, api_url=server.api_url, target="us")
    # A snapshot is there at once; an image's build is looked at once a second. Its sandboxes
    # run on this machine, and find the programs of this one.
    yield DaytonaBackend(
        config=config,
        snapshot="daytonaio/sandbox:latest",
        env_vars={"PATH": os.environ["PATH"]},
    )
    assert not [each for each in server.sandboxes.values() if each.desired != "destroyed"]
    assert server.violations == []
    # What it has open is this process's: the next test counts it.
    end = time.monotonic() + LEAVING
    while server.sandboxes and time.monotonic() < end:
        time.sleep(0.005)


def _why_not_without_python(request: pytest.FixtureRequest) -> str | None:
    name = f"{request.node.path.stem}.{request.node.originalname}"
    found = (why for pattern, why in NOT_WITHOUT_PYTHON.items() if fnmatch(name, pattern))
    return next(found, None)


@pytest.fixture
async def sandbox(backend: Backend) -> AsyncIterator[Sandbox]:
    """A fresh sandbox of that backend."""
    async with backend.sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def kill() -> Callable[[Sandbox], Awaitable[None]]:
    """End a sandbox's first process from outside, as an out-of-memory killer or a person would."""

    async def kill(sandbox: Sandbox) -> None:
        if isinstance(sandbox, DockerSandbox | FallbackSandbox):
            await asyncio.to_thread(sandbox._engine.client.kill, sandbox.id)
        elif isinstance(sandbox, LocalSandbox):
            sandbox._process.kill()
        elif isinstance(sandbox, DaytonaSandbox):
            await sandbox.native.stop()
        else:
            raise TypeError(f"how is a {type(sandbox).__name__} killed?")

    return kill
