"""A container without a guest: commands by the engine's exec, files by the image's own tools."""

from __future__ import annotations

import asyncio
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock._frozen import FrozenMapping
from paddock.backends.docker.control import (
    ContainerSandbox,
    controls,
    is_paused,
    remove_container,
)
from paddock.backends.docker.engine import EngineError
from paddock.backends.docker.fallback.files import ShellFileSystem
from paddock.backends.docker.fallback.inside import KEY
from paddock.backends.docker.fallback.process import ExecProcess
from paddock.backends.docker.inquest import cause_of_death
from paddock.errors import SandboxLost, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.attach import AttachedStream
    from paddock.backends.docker.backend import DockerBackend
    from paddock.backends.docker.container import ContainerPlan
    from paddock.backends.docker.engine import Engine
    from paddock.backends.docker.fallback.watchdog import Inside, Watchdog
    from paddock.backends.docker.owner import OwnerLock
    from paddock.sandbox import Command

__all__ = ["FallbackSandbox"]

ANSWER_DEADLINE = 20.0
"""Seconds in which the first process has to answer a beat: under any load that lets it run."""
GONE_DEADLINE = 10.0
"""Seconds until the end of a container is known, once the engine does not find it."""

SWITCHING = frozenset({Capability.USER})


class FallbackSandbox(ContainerSandbox):
    """Owns a container, its owner's lock and the stream to its first process."""

    def __init__(
        self,
        backend: DockerBackend,
        *,
        engine: Engine,
        watchdog: Watchdog,
        inside: Inside,
        stream: AttachedStream,
        plan: ContainerPlan,
        lock: OwnerLock,
        lease: float,
    ) -> None:
        self.id = plan.name
        self.backend = backend.name
        self.working_dir = PurePosixPath(plan.working_dir)
        self.labels = backend.labels
        switches = inside.root and plan.hardening == "default"
        self.capabilities = controls(plan) | (SWITCHING if switches else frozenset())
        self.env: Mapping[str, str] = FrozenMapping({KEY: "", **inside.env, **backend.env_vars})
        self.fs = ShellFileSystem(self, inside)
        self._recipe = backend
        self._plan = plan
        self._engine = engine
        self._watchdog = watchdog
        self._inside = inside
        self._stream = stream
        self._lock = lock
        self._made = time.time()
        self._processes: set[ExecProcess] = set()
        self._heart = asyncio.create_task(self._beat(lease / 4))
        self._watcher = asyncio.create_task(self._watch())

    @property
    def lost(self) -> bool:
        gone = self._watchdog.lost.done() or self._watchdog.disconnected.is_set()
        return super().lost or gone

    async def _start(self, command: Command) -> ExecProcess:
        if command.user is not None and Capability.USER not in self.capabilities:
            raise Unsupported("user=", backend=self.backend)
        if self._resumed is not None:
            await self._resumed.wait()  # an engine runs nothing in a container that is paused
        self._raise_if_lost()
        process = ExecProcess(self._engine, self.id, self._watchdog, self._inside, command)
        self._processes = {one for one in self._processes if one.busy} | {process}
        try:
            await process.begin()
        except EngineError as error:
            if error.status in (404, 409, None):  # the container does not run, or no engine
                await asyncio.wait([self._watchdog.lost], timeout=GONE_DEADLINE)
            self._raise_if_lost()
            raise
        return process

    def _raise_if_lost(self) -> None:
        if self._watchdog.lost.done():
            raise SandboxLost(self._watchdog.lost.result().reason, sandbox_id=self.id)

    async def _beat(self, interval: float) -> None:
        """Renew the lease, and notice a first process that no longer answers."""
        while not self._watchdog.lost.done():
            await asyncio.sleep(interval)
            if await self._rests():
                continue
            try:
                async with asyncio.timeout(ANSWER_DEADLINE):
                    await self._watchdog.beat()
            except TimeoutError:
                if self._resumed is None and not await is_paused(self._engine, self.id):
                    self._lose(f"its first process has not answered for {ANSWER_DEADLINE:g} s")
            except SandboxLost:
                return

    async def _watch(self) -> None:
        await self._watchdog.disconnected.wait()
        if self._watchdog.lost.done():
            self._lose(self._watchdog.lost.result().reason)
        elif not self.closed:
            log = self._stream.log
            self._lose(await cause_of_death(self._engine, self.id, made=self._made, said=log))

    def _lose(self, reason: str) -> None:
        self._watchdog.fail(reason)
        if self._resumed is not None:
            self._resumed.set()
        for process in self._processes:
            process.lose(SandboxLost(reason, sandbox_id=self.id))

    async def _close(self) -> None:
        self._heart.cancel()
        self._watchdog.close()
        try:
            await remove_container(self._engine, self.id)
        finally:
            self._lose("it was closed")
            await asyncio.wait([self._heart, self._watcher])
            for process in self._processes:
                await process.settle()
            self._lock.release()
            await self._forget_image()
