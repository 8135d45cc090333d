"""What the kit cannot know of our own backends."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from examples.via_backend import ViaSandbox
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.fallback.sandbox import FallbackSandbox
from paddock.backends.local.sandbox import LocalSandbox
from tests.e2e.processes import processes_with

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.sandbox import Sandbox


class Ours:
    """Comes before a class of the kit; `backend` is the fixture of `conftest.py`."""

    async def kill(self, sandbox: Sandbox) -> None:
        """End a sandbox's first process from outside."""
        if isinstance(sandbox, DockerSandbox | FallbackSandbox):
            await asyncio.to_thread(sandbox._engine.client.kill, sandbox.id)
        elif isinstance(sandbox, LocalSandbox):
            sandbox._process.kill()
        elif isinstance(sandbox, DaytonaSandbox):
            await sandbox.native.stop()
        elif isinstance(sandbox, ViaSandbox):
            (control,) = processes_with(f"\0{sandbox._prefix}\0")
            os.kill(control, signal.SIGKILL)
        else:
            raise TypeError(f"how is a {type(sandbox).__name__} killed?")

    async def headers(self, sandbox: Sandbox, port: int) -> Mapping[str, str]:
        """Return what requests to `sandbox.url(port)` have to bring."""
        if isinstance(sandbox, DaytonaSandbox):
            return (await sandbox.preview(port)).headers
        return {}
