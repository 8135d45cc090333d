"""One container and the guest in it; knows how it ended when it has."""

from __future__ import annotations

import asyncio
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock.backends.docker.attach import join_stream
from paddock.backends.docker.control import (
    ContainerSandbox,
    controls,
    is_paused,
    remove_container,
)
from paddock.backends.docker.engine import EngineError
from paddock.backends.docker.inquest import cause_of_death
from paddock.backends.guest.client import KILL_DEADLINE, GuestClient
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.errors import SandboxError, SandboxLost, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from paddock.backends.docker.attach import AttachedStream
    from paddock.backends.docker.backend import DockerBackend
    from paddock.backends.docker.container import ContainerPlan
    from paddock.backends.docker.engine import Engine
    from paddock.backends.docker.owner import OwnerLock
    from paddock.backends.guest.ports import Gate

__all__ = ["DockerSandbox"]

REJOIN = 2.0
"""Seconds in which a stream that broke has to be replaced: an engine restarts in 0.5 s, and
callers wait for the reason if it does not."""
REJOIN_INTERVAL = 0.1
IDLE_BEAT = 15.0
"""Seconds between two heartbeats where there is no lease to renew."""
ANSWER_DEADLINE = 20.0
"""Seconds in which a guest has to answer a heartbeat: under any load that lets it run."""

WITH_GUEST = frozenset(
    {Capability.TREE_KILL, Capability.NETWORK_ALLOWLIST, Capability.URL, Capability.TCP}
)
SWITCHING = frozenset({Capability.USER})
BOUNDED = frozenset({Capability.LIMIT_DISK})


class DockerSandbox(GuestSandbox, ContainerSandbox):
    """Owns a container, a lock of it and the stream to its guest."""

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
        gate: Gate,
        host: str,
    ) -> None:
        super().__init__(
            client,
            sandbox_id=plan.name,
            backend=backend.name,
            working_dir=PurePosixPath(plan.working_dir),
            env=env,
            labels=backend.labels,
            capabilities=controls(plan)
            | WITH_GUEST
            | (frozenset() if plan.keeps_files else BOUNDED)
            | (SWITCHING if plan.hardening == "default" and plan.is_root else frozenset()),
            gate=gate,
        )
        self._recipe = backend
        self._plan = plan
        self._host = host
        self._engine = engine
        self._stream = stream
        self._lock = lock
        self._made = time.time()
        self._heart = asyncio.create_task(self._beat((backend.lease or IDLE_BEAT * 4) / 4))
        self._watcher = asyncio.create_task(self._watch())

    def _be_patient(self, patient: bool) -> None:
        self._client.patience = None if patient else KILL_DEADLINE

    async def _beat(self, interval: float) -> None:
        """Renew the lease, and notice a guest that no longer answers."""
        while not self._client.lost.done():
            await asyncio.sleep(interval)
            if await self._rests():
                continue
            try:
                async with asyncio.timeout(ANSWER_DEADLINE):
                    await self._client.request("ping")
            except TimeoutError:
                if self._resumed is None and not await is_paused(self._engine, self.id):
                    self._client.fail(f"its guest has not answered for {ANSWER_DEADLINE:g} s")
            except SandboxLost:
                return

    async def _watch(self) -> None:
        """When the stream ends, go on over another one, or say how the sandbox ended."""
        while True:
            await self._client.disconnected.wait()
            if self.closed or self._client.lost.done():
                return
            try:
                again = await self._rejoin()
            except (EngineError, SandboxError, ValueError, TimeoutError):
                again = False
            if not again:
                log = self._stream.log
                cause = await cause_of_death(self._engine, self.id, made=self._made, said=log)
                self._client.fail(cause)
                return

    async def _rejoin(self) -> bool:
        """Another stream to the guest, if it is still there when the engine answers again."""
        async with asyncio.timeout(REJOIN):
            # Nothing tells when an engine answers again.
            while not await self._still_runs():  # noqa: ASYNC110
                await asyncio.sleep(REJOIN_INTERVAL)
            client = GuestClient()
            stream = await join_stream(self._engine, self.id, client)
            answer, _ = await client.request("join", word=self._plan.word)
            await self._client.take_over(client, self._host)
        self._stream, self._host = stream, str(answer["host"])
        return True

    async def _still_runs(self) -> bool:
        """False while the engine does not answer; `EngineError` when the container has ended."""
        try:
            found = await self._engine.call(
                "looking for a container", self._engine.client.inspect_container, self.id
            )
        except EngineError as error:
            if error.status is not None:
                raise
            return False
        if not found["State"]["Running"]:
            raise EngineError(f"{self.id} has ended")
        return True

    async def detach(self) -> None:
        if self._lock.is_makers and self._recipe.lease is not None:
            raise Unsupported(
                "detach() of a sandbox that has a lease",
                backend=self.backend,
                hint="make it with lease=None",
            )
        await self._end_with(self._let_go)

    async def _close(self) -> None:
        try:
            await self._let_go(then=remove_container(self._engine, self.id))
        finally:
            await self._forget_image()

    async def _let_go(self, then: Awaitable[None] | None = None) -> None:
        """End our side of it, and do what comes before the lock is released."""
        await super()._close()
        self._heart.cancel()
        self._client.close()
        try:
            if then is not None:
                await then
        finally:
            self._client.fail("it was closed")
            await asyncio.wait([self._heart, self._watcher])
            self._lock.release()
