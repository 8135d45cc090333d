"""One container and the guest in it; knows how it ended when it has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.engine import EngineError
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.errors import SandboxLost
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.attach import AttachedStream
    from paddock.backends.docker.backend import DockerBackend
    from paddock.backends.docker.container import ContainerPlan
    from paddock.backends.docker.engine import Engine
    from paddock.backends.docker.owner import OwnerLock
    from paddock.backends.guest.client import GuestClient

__all__ = ["DockerSandbox", "remove_container"]

INQUEST = 5.0
"""Seconds that asking how a container ended may take: callers wait for the reason."""
ANSWER_DEADLINE = 20.0
"""Seconds in which a guest has to answer a heartbeat: under any load that lets it run."""
KILLED = 137
"""The exit code of a first process that SIGKILL ended."""

ALWAYS = frozenset(
    {
        Capability.TREE_KILL,
        Capability.ISOLATION,
        Capability.NETWORK_NONE,
        Capability.LIMIT_PIDS,
        Capability.LIMIT_MEMORY,
        Capability.LIMIT_CPU,
    }
)


class DockerSandbox(GuestSandbox):
    """Owns a container, its owner's lock and the stream to its guest."""

    def __init__(
        self,
        backend: DockerBackend,
        *,
        engine: Engine,
        client: GuestClient,
        stream: AttachedStream,
        plan: ContainerPlan,
        lock: OwnerLock,
        env: Mapping[str, str],
    ) -> None:
        super().__init__(
            client,
            sandbox_id=plan.name,
            backend=backend.name,
            working_dir=PurePosixPath(plan.working_dir),
            env=env,
            labels=backend.labels,
            capabilities=ALWAYS,
        )
        self._engine = engine
        self._stream = stream
        self._lock = lock
        self._made = time.time()
        self._heart = asyncio.create_task(self._beat(backend.lease / 4))
        self._watcher = asyncio.create_task(self._watch())

    async def _beat(self, interval: float) -> None:
        """Renew the lease, and notice a guest that no longer answers."""
        while not self._client.lost.done():
            await asyncio.sleep(interval)
            try:
                async with asyncio.timeout(ANSWER_DEADLINE):
                    await self._client.request("ping")
            except TimeoutError:
                self._client.fail(f"its guest has not answered for {ANSWER_DEADLINE:g} s")
            except SandboxLost:
                return

    async def _watch(self) -> None:
        await self._client.disconnected.wait()
        if not self.closed and not self._client.lost.done():
            self._client.fail(await self._cause_of_death())

    async def _cause_of_death(self) -> str:
        """How the container ended, from the engine's memory of its events."""
        try:
            async with asyncio.timeout(INQUEST):
                events = await self._engine.call("asking how a container ended", self._events)
        except (EngineError, TimeoutError):
            return "the Docker Engine is gone"
        actions = {event["Action"]: event for event in events}
        if "oom" in actions:
            return "its memory ran out (OOM) and the kernel killed it"
        if "die" in actions:
            code = int(actions["die"]["Actor"]["Attributes"].get("exitCode", -1))
            if "kill" in actions:
                return f"its container was killed or removed from outside (exit {code})"
            ended = f"its container ended (exit {code})"
            return f"{ended}: {self._stream.log}" if self._stream.log else ended
        return await self._engine_restarted()

    def _events(self) -> list[Mapping[str, Any]]:
        found = self._engine.client.events(
            since=int(self._made) - 1,
            until=int(time.time()) + 1,
            filters={"container": self.id, "type": "container"},
            decode=True,
        )
        return list(found)

    async def _engine_restarted(self) -> str:
        with contextlib.suppress(EngineError):
            found = await self._engine.call(
                "looking for a container", self._engine.client.inspect_container, self.id
            )
            if found["State"]["Running"]:
                return "the Docker Engine was restarted and dropped the stream to its guest"
        return "the Docker Engine was restarted, and the container ended with it"

    async def _close(self) -> None:
        self._heart.cancel()
        self._client.close()
        try:
            await remove_container(self._engine, self.id)
        finally:
            self._client.fail("it was closed")
            await asyncio.wait([self._heart, self._watcher])
            self._lock.release()


async def remove_container(engine: Engine, name: str) -> None:
    """Remove a container and its anonymous volumes; one that is gone, or going, is fine."""
    try:
        await engine.call(
            f"removing {name}", engine.client.remove_container, name, v=True, force=True
        )
    except EngineError as error:
        if error.status == 404:
            return
        if error.status != 409:
            raise
        with contextlib.suppress(EngineError):  # 404: gone before we could wait for it
            await engine.call(
                f"waiting until {name} is gone", engine.client.wait, name, condition="removed"
            )
