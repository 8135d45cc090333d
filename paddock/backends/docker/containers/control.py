"""What an engine can do with a sandbox's container, whatever is inside: keep its files as an
image, make more of it, stop its processes where they are, tell what it uses.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.backends.docker.containers import commits
from paddock.backends.docker.containers.exit_reason import exit_reason
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.features import missing
from paddock.backends.guest.link import Liveness, State
from paddock.errors import Unsupported
from paddock.image import Image
from paddock.sandbox import Capability, Sandbox, Stats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.docker.containers.forks import Forks
    from paddock.backends.docker.containers.plan import ContainerPlan
    from paddock.backends.docker.engine.attach import AttachedStream
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.guest.link import Link
    from paddock.backends.guest.monitor import Heart

__all__ = [
    "ContainerSandbox",
    "controls",
    "remove_container",
    "remove_container_and_image",
    "resume_container",
]

PROBE_TIMEOUT = 5.0
"""Seconds for an engine to report a container's state: callers wait for the decision."""
GONE_DEADLINE = 10.0
"""Seconds until the end of a container is known, once the engine does not find it."""
REMOVAL_ATTEMPTS = 3
"""How often the removal is asked for while other removals of the container begin and fail."""
NOT_FOUND = 404
CONFLICT = 409

ALWAYS = frozenset(
    {
        Capability.NETWORK_NONE,
        Capability.PTY,
    }
)
KEEPING = frozenset({Capability.SNAPSHOT, Capability.FORK})


def controls(plan: ContainerPlan) -> frozenset[Capability]:
    """Return the capabilities that the engine gives to a container of this plan."""
    isolated = frozenset({Capability.ISOLATION}) if plan.hardening != "none" else frozenset()
    return ALWAYS | isolated | plan.features | (KEEPING if plan.keeps_files else frozenset())


class ContainerSandbox(Sandbox):
    """A sandbox in a container; subclasses know how commands get into it.

    They take the container down in `_close`, by `_remove`.
    """

    _engine: Engine
    _plan: ContainerPlan
    _forks: Forks
    _link: Link
    _heart: Heart
    _stream: AttachedStream

    async def _exit_reason(self) -> str:
        log = self._stream.log
        return await exit_reason(self._engine, self._plan.container, said=log)

    async def snapshot(self, name: str) -> Image:
        self._need_files("snapshot()")
        reference = commits.reference_of(name)
        async with self._present():
            await commits.keep(self._engine, self._plan.container, reference, self._made)
        return Image.from_registry(reference)

    async def _fork(self, count: int) -> list[Sandbox]:
        self._need_files("fork()")
        async with self._present():
            return await self._forks.make(count, self._made)

    @property
    def _made(self) -> commits.Made:
        safe = self._plan.guest_is_root and Capability.USER in self.capabilities
        return commits.Made(user=self._plan.user, changed=not safe)

    def _need_files(self, what: str) -> None:
        if not self._plan.keeps_files:
            raise Unsupported(
                f"{what} with hardening='strict'",
                backend=self.backend,
                hint="its files are in memory",
            )

    async def pause(self) -> None:
        if Capability.PAUSE not in self.capabilities:
            raise missing("pause()")
        if self._link.state is not State.PAUSED:
            async with self._present():
                await acquire(self._stop(), self._resume)

    async def _stop(self) -> None:
        await self._engine.call(
            f"pausing {self.id}", self._engine.client.pause, self._plan.container
        )
        self._link.pause()

    async def resume(self) -> None:
        async with self._present():
            await finish(self._resume())

    async def _resume(self, _: object = None) -> None:
        await resume_container(self._engine, self._plan.container)
        if self._link.state is State.PAUSED:
            self._link.resume(connected=self._heart.connected)

    @contextlib.asynccontextmanager
    async def _present(self) -> AsyncIterator[None]:
        """Raise `SandboxClosed` or `SandboxLost` for a container that is gone, before the block or
        within it."""
        self.raise_if_closed()
        self._link.raise_if_over()
        try:
            yield
        except EngineError as error:
            gone = error.status in (NOT_FOUND, CONFLICT) and await self._probe() is Liveness.ENDED
            self.raise_if_closed()
            if gone:
                await asyncio.wait([self._link.ended], timeout=GONE_DEADLINE)
                self._link.raise_if_over()
            raise

    async def _probe(self) -> Liveness:
        """Ask the engine for the container's state, for at most `PROBE_TIMEOUT`."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                found = await self._engine.call(
                    f"looking at {self.id}",
                    self._engine.client.inspect_container,
                    self._plan.container,
                )
        except EngineError as error:
            return Liveness.ENDED if error.status == NOT_FOUND else Liveness.UNKNOWN
        except TimeoutError:
            return Liveness.UNKNOWN
        if found["State"]["Paused"]:
            return Liveness.PAUSED
        return Liveness.RUNNING if found["State"]["Running"] else Liveness.ENDED

    async def stats(self) -> Stats:
        if Capability.STATS not in self.capabilities:
            raise missing("stats()")
        async with self._present():
            found = await self._engine.call(
                f"reading the use of {self.id}",
                self._engine.client.stats,
                self._plan.container,
                stream=False,
                one_shot=True,
            )
        memory = found["memory_stats"]
        return Stats(
            cpu=found["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
            memory=memory["usage"],
            memory_limit=memory.get("limit"),
            pids=found["pids_stats"]["current"],
        )

    async def _remove(self) -> bool:
        """Remove the container, and its image if that was made for forks."""
        return await remove_container_and_image(
            self._engine, self._plan.container, self._plan.image, self.id
        )


async def resume_container(engine: Engine, name: str) -> None:
    """Resume a container; one that is not paused is fine."""
    try:
        await engine.call(f"resuming {name}", engine.client.unpause, name)
    except EngineError:
        found = await engine.call(f"looking at {name}", engine.client.inspect_container, name)
        if found["State"]["Paused"] or not found["State"]["Running"]:
            raise


async def remove_container(engine: Engine, container: str, name: str | None = None) -> bool:
    """Remove a container and its anonymous volumes; False if it was gone.

    `container` is its name or id, `name` what errors call it.
    """
    name = name or container
    found = False
    for _ in range(REMOVAL_ATTEMPTS - 1):
        try:
            return await _remove(engine, container, name) or found
        except EngineError as error:
            if error.status != CONFLICT:
                raise
        found = True
        with contextlib.suppress(EngineError):  # 404: gone before we could wait for it
            await engine.call(
                f"waiting until {name} is gone", engine.client.wait, container, condition="removed"
            )
        # The wait ends as well when the other removal failed, so the container is asked for again.
    return await _remove(engine, container, name) or found


async def remove_container_and_image(
    engine: Engine, container: str, image: str, name: str | None = None
) -> bool:
    """Remove a container, see `remove_container`, and `image` if it was the last of its forks."""
    found = await remove_container(engine, container, name)
    await commits.release(engine, image)
    return found


async def _remove(engine: Engine, container: str, name: str) -> bool:
    """Ask the engine once; the error's status is `CONFLICT` if another removal is under way."""
    try:
        await engine.call(
            f"removing {name}", engine.client.remove_container, container, v=True, force=True
        )
    except EngineError as error:
        if error.status != NOT_FOUND:
            raise
        return False
    return True
