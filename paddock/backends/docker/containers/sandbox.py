"""One container and the guest in it; knows how it ended when it has."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock.backends.docker.containers import removal
from paddock.backends.docker.containers.control import ContainerSandbox, controls
from paddock.backends.docker.containers.plan import BACKEND
from paddock.backends.docker.engine.attach import join_stream
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import Liveness
from paddock.backends.guest.monitor import Monitor
from paddock.backends.guest.sandbox import GuestSandbox
from paddock.errors import SandboxError, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.containers.forks import Forks
    from paddock.backends.docker.containers.owner import OwnerLock
    from paddock.backends.docker.containers.plan import ContainerPlan
    from paddock.backends.docker.engine.attach import AttachedStream
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.guest.ports import Gate

__all__ = ["DockerSandbox"]

RECONNECT_TIMEOUT = 4.0
"""Seconds in which a stream that broke has to be replaced, less than the guest waits: an engine
restarts in 0.5 s, on a machine under load some 2 s. Callers wait for the reason if it does not."""
RECONNECT_INTERVAL = 0.1
IDLE_INTERVAL = 15.0
"""Seconds between two heartbeats where there is no lease to renew."""

WITH_GUEST = frozenset(
    {
        Capability.NETWORK_ALLOWLIST,
        Capability.PROCESSES,
        Capability.TCP,
        Capability.TREE_KILL,
        Capability.URL,
    }
)
STRICT = "hardening='strict' leaves no right to change users; hardening='default' does"
REPLACEABLE = (
    "the commands' own user can replace the image's Python, so that nothing of ours runs as root; "
    "give the image a python3 that is root's, first on PATH, or choose the user of all commands by "
    "DockerBackend(user=...)"
)
SWITCHING = frozenset({Capability.USER})
BOUNDED = frozenset({Capability.LIMIT_DISK})


class DockerSandbox(GuestSandbox, ContainerSandbox):
    """Owns a container, a lock of it and the stream to its guest."""

    def __init__(
        self,
        *,
        engine: Engine,
        client: GuestClient,
        stream: AttachedStream,
        plan: ContainerPlan,
        lock: OwnerLock,
        env: Mapping[str, str],
        gate: Gate,
        host: str,
        switches: bool,
        forks: Forks,
    ) -> None:
        super().__init__(
            client,
            sandbox_id=plan.name,
            backend=BACKEND,
            working_dir=PurePosixPath(plan.working_dir),
            env=env,
            labels=plan.own_labels,
            capabilities=controls(plan)
            | WITH_GUEST
            | (frozenset() if plan.keeps_files else BOUNDED)
            | (SWITCHING if switches and plan.hardening != "strict" else frozenset()),
            gate=gate,
        )
        self.one_user = STRICT if plan.hardening == "strict" else REPLACEABLE
        self._plan = plan
        self._forks = forks
        self._host = host
        self._engine = engine
        self._stream = stream
        self._lock = lock
        self._link = client.link
        self._link.probe = self._probe
        self._heart = client.channels
        self._monitor = Monitor(
            client.link,
            client.channels,
            interval=(plan.lease or IDLE_INTERVAL * 4) / 4,
            reconnect=self._reconnect,
            exit_reason=self._exit_reason,
        )

    async def _reconnect(self) -> bool:
        """Find the guest again over another stream; False if it has ended or cannot be found."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_TIMEOUT):
                while (found := await self._probe()) is not Liveness.ENDED:
                    if found is Liveness.PAUSED:
                        self._link.pause()
                        return True
                    if found is Liveness.RUNNING and await self._rejoin():
                        return True
                    # Nothing tells when an engine answers again.
                    await asyncio.sleep(RECONNECT_INTERVAL)
        return False

    async def _rejoin(self) -> bool:
        """Join the guest and continue there; False if the engine refused or hung up again."""
        joining = GuestClient()
        connection = joining.connect()
        try:
            stream = await join_stream(
                self._engine,
                self._plan.container,
                connection,
                self._plan.join_token,
                user=self._plan.user,
            )
            answer, _ = await joining.request("join")
            await self._client.reconnect(connection, self._host)
        except (EngineError, SandboxError):
            joining.link.close()
            return False
        except BaseException:
            joining.link.close()
            raise
        self._stream, self._host = stream, str(answer["host"])
        return True

    async def detach(self) -> None:
        if self._lock.is_makers and self._plan.lease is not None:
            raise Unsupported(
                "detach() of a sandbox that has a lease",
                backend=self.backend,
                hint="make it with lease=None",
            )
        await self._end_with(self._let_go)

    async def _close(self) -> None:
        self._link.close()
        await super()._close()
        try:
            await removal.remove(self._lock, self._remove)
        finally:
            await self._monitor.aclose()

    async def _let_go(self) -> None:
        """End our side of it."""
        self._link.close()
        await super()._close()
        await self._monitor.aclose()
        self._lock.release()
