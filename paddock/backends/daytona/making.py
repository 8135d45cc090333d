"""Makes sandboxes in Daytona: their owner's lock, and a guest in them that answers."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from paddock._concurrency import acquire, finish
from paddock.backends.daytona import inventory
from paddock.backends.daytona.long_poll import LongPollTransport
from paddock.backends.daytona.request_channel import RequestChannel
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.backends.daytona.service import PAUSE_MAX, REPEATING
from paddock.backends.guest.bundle import sources
from paddock.backends.guest.client import GuestClient
from paddock.backends.owner import OwnerLock
from paddock.errors import SandboxError, SandboxLost, Unsupported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.backends.daytona.plan import Plan
    from paddock.backends.daytona.service import Service

__all__ = ["FOLDERS", "adopt", "join", "make"]

FOLDERS = "/tmp/.paddock-"
"""How the paths begin of the directories in which guests keep output that is too long."""
READY_DEADLINE = 60.0
"""Seconds until a guest has to answer in a sandbox that runs."""
LOST_AND_FOUND = 3.0
"""Seconds in which a sandbox may still appear whose making was broken off."""
NO_PYTHON = ("python3: not found", "python3: command not found", "command not found: python3")


async def make(
    service: Service, plan: Plan, create: Callable[[str], Awaitable[Any]]
) -> DaytonaSandbox:
    """Return a sandbox of what `create` makes, given its name; on a failure nothing is left."""
    lock = await acquire(asyncio.to_thread(OwnerLock.take), _released)
    return await _settled(service, plan, lock, create)


async def adopt(
    service: Service, plan: Plan, fork: Callable[[str], Awaitable[Any]]
) -> DaytonaSandbox:
    """As `make`, for a fork: its name tells the owner until its labels are its own."""
    lock = await acquire(asyncio.to_thread(_take_for_fork), _released)
    return await _settled(service, plan, lock, fork)


async def join(service: Service, plan: Plan, native: Any) -> DaytonaSandbox:
    """Return another hold of a sandbox that runs."""
    joining = asyncio.to_thread(OwnerLock.join, native.labels[inventory.LABEL])
    lock = await acquire(joining, _released)
    try:
        return await _with_guest(service, plan, native, lock)
    except BaseException:
        lock.release()
        raise


def _take_for_fork() -> OwnerLock:
    return OwnerLock.take(inventory.fork_prefix())


async def _released(lock: OwnerLock) -> None:
    lock.release()


async def _settled(
    service: Service, plan: Plan, lock: OwnerLock, create: Callable[[str], Awaitable[Any]]
) -> DaytonaSandbox:
    try:
        native = await create(lock.name)
        return await _with_guest(service, plan, native, lock)
    except BaseException as error:
        # Only of what was answered is it known that nothing will appear any more.
        answered = isinstance(error, Exception) and not getattr(error, "unanswered", False)
        removing = inventory.remove_by_name(
            service, lock.name, within=0 if answered else LOST_AND_FOUND
        )
        try:
            await finish(removing, cancelled=isinstance(error, asyncio.CancelledError))
        except SandboxError as failure:
            error.add_note(f"what was made may be there still: {failure}")
        finally:
            lock.release()
        raise


async def _with_guest(service: Service, plan: Plan, native: Any, lock: OwnerLock) -> DaytonaSandbox:
    """Put a guest into a sandbox that runs, and wait for its answer."""
    client = GuestClient(kill_timeout=PAUSE_MAX + REPEATING)
    requests = RequestChannel(service, native, client.link)
    transport = LongPollTransport(requests.run, client.channels)
    folder = f"{FOLDERS}{secrets.token_hex(8)}"
    transport.write(sources())
    questions = [
        client.request(
            "configure", limits={}, spill_dir=folder, lease=None, user=None, image_env=[]
        )
    ]
    if plan.working_dir is not None:
        questions.append(
            client.request("mkdir", path=plan.working_dir, parents=True, exist_ok=True)
        )
    asked = asyncio.gather(*questions)
    try:
        async with asyncio.timeout(READY_DEADLINE):
            (answer, _), *_ = await asked
    except BaseException as error:
        asked.cancel()
        client.link.fail("it could not be started")
        await finish(transport.wait_closed())
        if isinstance(error, TimeoutError):
            raise SandboxLost(
                f"its guest did not answer within {READY_DEADLINE:g} s", sandbox_id=native.id
            ) from None
        if isinstance(error, SandboxLost) and any(sign in str(error) for sign in NO_PYTHON):
            what = "an image without Python 3.8 or newer"
            raise Unsupported(what, backend=inventory.BACKEND) from error
        raise
    return DaytonaSandbox(
        plan,
        service=service,
        native=native,
        client=client,
        transport=transport,
        requests=requests,
        lock=lock,
        env={**answer["env"], **plan.env_vars},
        working_dir=plan.working_dir or str(answer["env"]["PWD"]),
        folder=folder,
        switches=answer["switches"],
        adopt=adopt,
    )
