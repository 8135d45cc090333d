"""A container without a guest: commands by the engine's exec, files by the image's own tools."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock._frozen import FrozenMapping
from paddock.backends.docker.containers import removal
from paddock.backends.docker.containers.control import (
    GONE_DEADLINE,
    ContainerSandbox,
    controls,
)
from paddock.backends.docker.containers.plan import BACKEND
from paddock.backends.docker.containers.sandbox import STRICT
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.fallback.process import ExecProcess
from paddock.backends.guest.link import State
from paddock.backends.guest.monitor import Monitor
from paddock.backends.posix.files import PosixFileSystem
from paddock.backends.posix.inside import KEY
from paddock.errors import ConfigError, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.containers.forks import Forks
    from paddock.backends.docker.containers.owner import OwnerLock
    from paddock.backends.docker.containers.plan import ContainerPlan
    from paddock.backends.docker.engine.attach import AttachedStream
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.fallback.watchdog import Watchdog
    from paddock.backends.posix.inside import Inside
    from paddock.sandbox import Command

__all__ = ["FallbackSandbox"]

SWITCHING = frozenset({Capability.USER})


class FallbackSandbox(ContainerSandbox):
    """Owns a container, its owner's lock and the stream to its first process."""

    unfenced = "the image has no Python 3.8 or newer, which Paddock needs inside to fence a command"

    def __init__(
        self,
        *,
        engine: Engine,
        watchdog: Watchdog,
        inside: Inside,
        stream: AttachedStream,
        plan: ContainerPlan,
        lock: OwnerLock,
        lease: float,
        forks: Forks,
    ) -> None:
        self.id = plan.name
        self.backend = BACKEND
        self.working_dir = PurePosixPath(plan.working_dir)
        self.labels = plan.own_labels
        switches = plan.hardening != "strict"
        self.capabilities = controls(plan) | (SWITCHING if switches else frozenset())
        self.env: Mapping[str, str] = FrozenMapping({KEY: "", **inside.env, **plan.env_vars})
        self.fs = PosixFileSystem(self)
        self._plan = plan
        self._forks = forks
        self._engine = engine
        self._watchdog = watchdog
        self._inside = replace(inside, user=plan.user or "root")
        self._stream = stream
        self._lock = lock
        self._processes: set[ExecProcess] = set()
        self._lifetime: float | None = None
        self._starting = 0
        self._none_starting = asyncio.Event()
        self._pausing: asyncio.Event | None = None
        """Set at the end of a pause that begins just now, for which commands wait."""
        self._link = watchdog.link
        self._link.sandbox_id = self.id
        self._link.probe = self._probe
        self._link.when_over(self._on_over)
        self._heart = watchdog
        self._monitor = Monitor(
            watchdog.link,
            watchdog,
            interval=lease / 4,
            exit_reason=self._exit_reason,
        )

    @property
    def lost(self) -> bool:
        return super().lost or self._link.over

    async def _start(self, command: Command) -> ExecProcess:
        if command.user is not None and Capability.USER not in self.capabilities:
            raise Unsupported(f"user={command.user!r}", backend=self.backend, hint=STRICT)
        while self._link.state is State.PAUSED or self._pausing is not None:
            await self._link.changed_from(State.PAUSED)
            if self._pausing is not None:
                await self._pausing.wait()
        self._link.raise_if_over()
        process = ExecProcess(
            self._engine, self._plan.container, self._watchdog, self._inside, command
        )
        self._processes = {one for one in self._processes if one.busy} | {process}
        self._starting += 1
        process.begun.add_done_callback(self._on_begun)
        try:
            await process.begin()
        except EngineError as error:
            if error.status in (404, 409, None):  # the container does not run, or no engine
                await asyncio.wait([self._link.ended], timeout=GONE_DEADLINE)
            self._link.raise_if_over()
            raise
        return process

    async def _limit_time(self, lifetime: float | None, idle_timeout: float | None) -> None:
        if idle_timeout is not None:
            hint = "use an image that has Python 3.8 or newer"
            raise Unsupported("idle_timeout= without Python", backend=self.backend, hint=hint)
        self._lifetime = lifetime
        if lifetime is not None:
            await self._watchdog.end_after(lifetime)

    async def _renew(self, lifetime: float | None) -> None:
        self._lifetime = lifetime or self._lifetime
        if self._lifetime is None:
            raise ConfigError("renew: the sandbox has no lifetime; say how long it is to live")
        await self._watchdog.end_after(self._lifetime)

    def _on_begun(self, _: object) -> None:
        self._starting -= 1
        if not self._starting:
            self._none_starting.set()

    async def _stop(self) -> None:
        """Pause when no command is being started, which one is until it says so itself: runc
        would freeze half-way inside, and the engine hold the container's lock until then, for
        `resume` and removal too."""
        self._pausing = asyncio.Event()
        try:
            while self._starting:
                self._none_starting.clear()
                await self._none_starting.wait()
            await super()._stop()
        finally:
            self._pausing.set()
            self._pausing = None

    def _on_over(self) -> None:
        for process in self._processes:
            process.lose(self._link.error())

    async def _close(self) -> None:
        self._link.close()
        try:
            await removal.remove(self._lock, self._remove)
        finally:
            await self._monitor.aclose()
            for process in self._processes:
                await process.settle()
