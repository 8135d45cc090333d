"""One container and the guest in it; knows how it ended when it has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.backends.docker import owner
from paddock.backends.docker.attach import join_stream
from paddock.backends.docker.engine import EngineError
from paddock.backends.docker.inquest import cause_of_death
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.errors import SandboxError, SandboxLost, Unsupported
from paddock.image import Image
from paddock.sandbox import Capability, Stats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from paddock.backends.docker.attach import AttachedStream
    from paddock.backends.docker.backend import DockerBackend
    from paddock.backends.docker.container import ContainerPlan
    from paddock.backends.docker.engine import Engine
    from paddock.backends.docker.owner import OwnerLock
    from paddock.backends.guest.ports import Gate
    from paddock.sandbox import Sandbox

__all__ = ["DockerSandbox", "remove_container"]

REJOIN = 2.0
"""Seconds in which a stream that broke has to be replaced: an engine restarts in 0.5 s, and
callers wait for the reason if it does not."""
REJOIN_INTERVAL = 0.1
IDLE_BEAT = 15.0
"""Seconds between two heartbeats where there is no lease to renew."""
ANSWER_DEADLINE = 20.0
"""Seconds in which a guest has to answer a heartbeat: under any load that lets it run."""

ALWAYS = frozenset(
    {
        Capability.TREE_KILL,
        Capability.ISOLATION,
        Capability.NETWORK_NONE,
        Capability.NETWORK_ALLOWLIST,
        Capability.URL,
        Capability.LIMIT_PIDS,
        Capability.LIMIT_MEMORY,
        Capability.LIMIT_CPU,
        Capability.PAUSE,
        Capability.STATS,
    }
)
SWITCHING = frozenset({Capability.USER})
KEEPING = frozenset({Capability.SNAPSHOT, Capability.FORK})
BOUNDED = frozenset({Capability.LIMIT_DISK})
FORKS = "paddock-fork"
"""The repository of images that forks are made from; each goes with the last of its forks."""
COMMIT_DEADLINE = 600.0
"""Seconds for the engine to write a container's files: a disk's pace."""


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
        lock: OwnerLock | None,
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
            capabilities=ALWAYS
            | (KEEPING if plan.keeps_files else BOUNDED)
            | (SWITCHING if plan.hardening == "default" and plan.user is None else frozenset()),
            gate=gate,
        )
        self._recipe = backend
        self._plan = plan
        self._host = host
        self._paused = False
        self._borrowed: str | None = None
        self._engine = engine
        self._stream = stream
        self._lock = lock
        self._made = time.time()
        self._heart = asyncio.create_task(self._beat((backend.lease or IDLE_BEAT * 4) / 4))
        self._watcher = asyncio.create_task(self._watch())

    async def snapshot(self, name: str) -> Image:
        if not self._plan.keeps_files:
            raise Unsupported(
                "snapshot() with hardening='strict'",
                backend=self.backend,
                hint="its files are in memory",
            )
        repository, _, tag = name.partition(":")
        await self._commit(repository, tag or "latest", {owner.IMAGE_LABEL: name})
        return Image.from_registry(f"{repository}:{tag or 'latest'}")

    async def _commit(self, repository: str, tag: str, labels: Mapping[str, str]) -> None:
        """Write the container's files as an image that starts nothing and is nobody's sandbox."""
        labels = {owner.LABEL: "", owner.PLACE_LABEL: "", **labels}
        await self._engine.call(
            f"taking a snapshot of {self.id}",
            self._engine.client.commit,
            self.id,
            repository=repository,
            tag=tag,
            changes=[
                "ENTRYPOINT []",
                "CMD []",
                *(f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()),
            ],
            deadline=COMMIT_DEADLINE,
        )

    async def fork(self, count: int = 1) -> list[Sandbox]:
        if not self._plan.keeps_files:
            raise Unsupported(
                "fork() with hardening='strict'",
                backend=self.backend,
                hint="its files are in memory",
            )
        tag = secrets.token_hex(6)
        image = f"{FORKS}:{tag}"

        async def forget(_: object = None) -> None:
            await remove_image(self._engine, image)

        await acquire(self._commit(FORKS, tag, {owner.FORK_LABEL: owner.place()}), forget)
        try:
            return await self._fork_from(image, count)
        except BaseException:
            await finish(forget())
            raise

    async def _fork_from(self, image: str, count: int) -> list[Sandbox]:
        recipe = replace(self._recipe, image=image, uploads=(), setup=())
        making = [asyncio.ensure_future(recipe.create()) for _ in range(count)]
        try:
            await asyncio.wait(making)
            made = [task.result() for task in making]
        except BaseException:
            await finish(_close_all(making))
            raise
        for sandbox in made:
            assert isinstance(sandbox, DockerSandbox)
            sandbox._borrowed = image
        return made

    async def pause(self) -> None:
        self._paused = True
        try:
            await self._engine.call(f"pausing {self.id}", self._engine.client.pause, self.id)
        except BaseException:
            self._paused = False
            raise

    async def resume(self) -> None:
        await self._engine.call(f"resuming {self.id}", self._engine.client.unpause, self.id)
        self._paused = False

    async def stats(self) -> Stats:
        found = await self._engine.call(
            f"reading the use of {self.id}",
            self._engine.client.stats,
            self.id,
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

    async def _beat(self, interval: float) -> None:
        """Renew the lease, and notice a guest that no longer answers."""
        while not self._client.lost.done():
            await asyncio.sleep(interval)
            if self._paused:
                continue
            try:
                async with asyncio.timeout(ANSWER_DEADLINE):
                    await self._client.request("ping")
            except TimeoutError:
                if not self._paused:
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
        if self._lock is not None and self._recipe.lease is not None:
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
            if self._borrowed is not None:
                await remove_image(self._engine, self._borrowed)

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
            if self._lock is not None:
                self._lock.release()


async def _close_all(making: Sequence[asyncio.Task[Sandbox]]) -> None:
    for task in making:
        task.cancel()
    await asyncio.wait(making)
    for task in making:
        if not task.cancelled() and task.exception() is None:
            await task.result().aclose()


async def remove_image(engine: Engine, image: str) -> None:
    """Remove an image, unless a sandbox still uses it; the last one's end removes it then."""
    try:
        await engine.call(f"removing {image}", engine.client.remove_image, image)
    except EngineError as error:
        if error.status not in (404, 409):
            raise


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
