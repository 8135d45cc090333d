"""The guest of a container: put into a new one, or joined in one that runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paddock._concurrency import interruptible
from paddock.backends.docker.containers.creation import create_container, start_container
from paddock.backends.docker.containers.exit_reason import exit_reason
from paddock.backends.docker.containers.forks import Forks, Make
from paddock.backends.docker.containers.plan import BACKEND
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.backends.docker.engine.attach import join_stream, open_stream
from paddock.backends.egress import gate
from paddock.backends.guest.bundle import bundle
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.link import State
from paddock.errors import SandboxLost, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.containers.owner import OwnerLock
    from paddock.backends.docker.containers.plan import ContainerPlan, Network
    from paddock.backends.docker.engine.client import Engine

__all__ = ["GuestNotStarted", "join_guest", "start_guest"]

READY_DEADLINE = 60.0
"""Seconds from the start of a container until its guest has to answer: it takes 0.05 s, on
an engine that starts fifty at once some 10 s."""


class GuestNotStarted(SandboxLost):
    """The first process ended before it answered; `cause` is what it wrote, or how it ended."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"its guest did not start: {cause}")
        self.cause = cause


async def start_guest(
    engine: Engine, plan: ContainerPlan, lock: OwnerLock, make: Make
) -> DockerSandbox:
    """Create a container and start it with a guest; `make` is for its forks.

    Raise `EngineError` or `SandboxLost`; the container may then be left.
    """
    plan = await create_container(engine, plan)
    client = GuestClient()
    way_out = gate(plan.network)
    connection = client.connect()
    stream = await open_stream(engine, plan.container, connection)
    connection.write(bundle())
    configured = asyncio.ensure_future(
        client.request(
            "configure",
            user=plan.user if plan.guest_is_root else None,
            image_env=plan.image_env,
            limits={},
            spill_dir=plan.spill_dir,
            lease=plan.lease,
            outlives=plan.lease is None,
            join_token=plan.join_token,
            listen=way_out.port,
            hosts=plan.hosts,
            env_vars=dict(plan.env_vars),
        )
    )
    try:
        await start_container(engine, plan)
        answer = await interruptible(_ready(configured, client))
        if answer is None:
            raise GuestNotStarted(stream.log or await exit_reason(engine, plan.container, said=""))
        if answer.get("fault") is not None:
            raise Unsupported(
                "a container without a network",
                backend=BACKEND,
                hint=f"{answer['fault']}; with runtime=... the engine sets it up",
            )
    except BaseException:
        configured.cancel()
        client.link.fail("it could not be started")
        raise
    return DockerSandbox(
        engine=engine,
        client=client,
        stream=stream,
        plan=plan,
        lock=lock,
        env={**way_out.environment(answer["env"]), **plan.env_vars},
        gate=way_out,
        host=answer["host"],
        switches=answer["switches"],
        forks=Forks(engine, plan, make),
    )


async def join_guest(
    engine: Engine,
    plan: ContainerPlan,
    lock: OwnerLock,
    make: Make,
    *,
    env_vars: Mapping[str, str],
    network: Network,
) -> DockerSandbox:
    """Open another connection to the guest of a container that runs.

    `env_vars` are added to those of its maker. `network` says what this host's proxy lets
    through. Raise `EngineError` or `SandboxLost`.
    """
    client = GuestClient()
    try:
        stream = await join_stream(
            engine, plan.container, client.connect(), plan.join_token, user=plan.user
        )
        joining = asyncio.ensure_future(client.request("join"))
        answer = await interruptible(_ready(joining, client))
        if answer is None:
            raise SandboxLost(f"it could not be joined: {stream.log or 'it said nothing'}")
    except BaseException:
        client.link.fail("it could not be joined")
        raise
    plan = replace(plan, env_vars={**answer["env_vars"], **env_vars})
    return DockerSandbox(
        engine=engine,
        client=client,
        stream=stream,
        plan=plan,
        lock=lock,
        env={**answer["env"], **plan.env_vars},
        gate=gate(network),
        host=answer["host"],
        switches=answer["switches"],
        forks=Forks(engine, plan, make),
    )


async def _ready(configured: asyncio.Task[Any], client: GuestClient) -> dict[str, Any] | None:
    """Return what the guest reports of itself, or None if the stream to it ended first."""
    gone = asyncio.create_task(client.link.changed_from(State.RUNNING))
    try:
        await asyncio.wait(
            [configured, gone], timeout=READY_DEADLINE, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        gone.cancel()
    if configured.done():
        answer: dict[str, Any] = configured.result()[0]
        return answer
    configured.cancel()
    if not client.channels.connected:
        return None
    raise SandboxLost(f"its guest did not answer within {READY_DEADLINE:g} s")
