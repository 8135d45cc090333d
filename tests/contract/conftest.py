"""The contract tests run over every backend, and over every isolation level of the local one."""

from __future__ import annotations

import asyncio
import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.sandbox import DockerSandbox
from paddock.backends.local import LocalBackend, LocalSandbox, probe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox

BACKENDS: dict[str, Backend] = {
    "docker": DockerBackend(network="none"),
    "local-none": LocalBackend(isolation="none"),
    "local-bubblewrap": LocalBackend(isolation="bubblewrap"),
}


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this test's sandboxes leave behind is told apart from everybody else's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(params=sorted(BACKENDS))
async def backend(
    request: pytest.FixtureRequest, require: Callable[[str, bool, str], None]
) -> Backend:
    """One backend's recipe; skipped, with the reason, where this machine cannot run it."""
    if request.param == "docker":
        request.getfixturevalue("base_image")
    if request.param == "local-bubblewrap":
        found = await probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    return BACKENDS[request.param]


@pytest.fixture
async def sandbox(backend: Backend) -> AsyncIterator[Sandbox]:
    """A fresh sandbox of that backend."""
    async with backend.sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def kill() -> Callable[[Sandbox], Awaitable[None]]:
    """End a sandbox's first process from outside, as an out-of-memory killer or a person would."""

    async def kill(sandbox: Sandbox) -> None:
        if isinstance(sandbox, DockerSandbox):
            await asyncio.to_thread(sandbox._engine.client.kill, sandbox.id)
        elif isinstance(sandbox, LocalSandbox):
            sandbox._process.kill()
        else:
            raise TypeError(f"how is a {type(sandbox).__name__} killed?")

    return kill
