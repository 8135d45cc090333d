"""Makes sandboxes in Daytona: their owner's lock, and a guest in them that answers."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from paddock._concurrency import acquire, finish, in_background
from paddock._logs import get_logger
from paddock.backends.daytona import adoption, deletion, inventory
from paddock.backends.daytona.long_poll import LongPollTransport
from paddock.backends.daytona.request_channel import RequestChannel
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.backends.daytona.service import REPEATING, WINDOW
from paddock.backends.guest.bundle import sources
from paddock.backends.guest.client import GuestClient
from paddock.backends.owner import OwnerLock
from paddock.errors import SandboxLost, Unsupported

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
SOON = 5.0
"""Seconds that a failed creation waits for what it removes: Daytona takes less, or refuses. More
than `LOST_AND_FOUND`, for which nothing may appear."""
KILLING = WINDOW + REPEATING
"""Seconds in which a command has to be ended: its request may be refused until the next window,
and then fail on its way."""
_log = get_logger(__name__)
NO_PYTHON = ("python3: not found", "python3: command not found", "command not found: python3")


async def make(
    service: Service, plan: Plan, create: Callable[[str], Awaitable[Any]]
) -> DaytonaSandbox:
    """Return a sandbox of what `create` makes, given its name; on a failure nothing is left."""
    lock = await acquire(asyncio.to_thread(OwnerLock.take), _released)
    return await _settled(service, plan, lock, create, is_fork=False)


async def adopt(
    service: Service, plan: Plan, fork: Callable[[str], Awaitable[Any]]
) -> DaytonaSandbox:
    """As `make`, for a fork: its name tells the owner until its labels are its own."""
    lock = await acquire(asyncio.to_thread(_take_for_fork), _released)
    return await _settled(service, plan, lock, fork, is_fork=True)


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
    service: Service,
    plan: Plan,
    lock: OwnerLock,
    create: Callable[[str], Awaitable[Any]],
    *,
    is_fork: bool,
) -> DaytonaSandbox:
    try:
        native = await create(lock.name)
        sandbox = await _with_guest(service, plan, native, lock)
        if not is_fork:  # a fork lives as its parent does
            await _adopted(service, native, plan, sandbox)
        return sandbox
    except BaseException as error:
        # Only after an answer is it known that nothing more will appear.
        answered = isinstance(error, Exception) and not getattr(error, "unanswered", False)
        within = 0 if answered else LOST_AND_FOUND
        removing = in_background(_removed(service.share(), lock.name, within))
        try:
            await finish(_soon(removing))
        finally:
            lock.release()
            _tell_of_what_is_left(error, lock.name, removing)
        raise


async def _adopted(service: Service, native: Any, plan: Plan, sandbox: DaytonaSandbox) -> None:
    try:
        await adoption.adopt(service, native, plan)
    except BaseException:
        await finish(sandbox.stop_asking())
        raise


async def _removed(service: Service, name: str, within: float) -> None:
    """Remove what was made, for as long as Daytona makes it, and let go of `service`."""
    try:
        await deletion.remove_by_name(service, name, within=within)
    finally:
        await finish(service.aclose())


async def _soon(removing: asyncio.Task[None]) -> None:
    await asyncio.wait([removing], timeout=SOON)


def _tell_of_what_is_left(error: BaseException, name: str, removing: asyncio.Task[None]) -> None:
    """Add to an error what may be there still; log it where the error is a cancellation."""
    if not removing.done():
        removing.add_done_callback(_tell_if_it_failed)
        left = (
            f"Daytona deletes no sandbox that it still makes: the deletion of {name} continues in "
            f"the background. If this process ends before, paddock gc --backend "
            f"{inventory.BACKEND} deletes it, or Daytona itself, some minutes after it runs"
        )
    elif removing.cancelled() or (failure := removing.exception()) is None:
        return
    else:
        left = f"what was made may be there still: {failure}"
    if isinstance(error, Exception):
        error.add_note(left)
    else:
        _log.warning(left)


def _tell_if_it_failed(removing: asyncio.Task[None]) -> None:
    if not removing.cancelled() and (failure := removing.exception()) is not None:
        _log.warning("a sandbox in Daytona was not deleted: %s", failure)


async def _with_guest(service: Service, plan: Plan, native: Any, lock: OwnerLock) -> DaytonaSandbox:
    """Put a guest into a sandbox that runs, and wait for its answer."""
    client = GuestClient(kill_timeout=KILLING)
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
