"""Takes down what is ours in an account, from outside: one sandbox, or what dead processes left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from paddock._logs import get_logger
from paddock.backends import owner
from paddock.backends.daytona import adoption
from paddock.backends.daytona.failures import REFUSED, ServiceError, ServiceUnreachable, sdk
from paddock.backends.daytona.inventory import (
    BACKEND,
    CLOSED,
    HOST_LABEL,
    LABEL,
    PARENT_LABEL,
    find_by_name,
    fork_prefix,
    is_being_made,
    is_closed,
    is_unfinished,
    listed,
    lock_of,
    outlives,
    set_labels,
    state_of,
)
from paddock.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.daytona.service import Service

__all__ = ["collect", "collect_once", "delete", "delete_again", "remove", "remove_by_name"]

CLOSED_MINUTES = 60
"""Minutes after which Daytona deletes a closed sandbox itself, if its forks are gone and nobody
noticed."""
DELETE_DEADLINE = 60.0
LOOK_AGAIN = 0.5
"""Seconds between two looks for a sandbox that may yet appear."""
MAKING_DEADLINE = 3600.0
"""Seconds in which Daytona has made a sandbox: large images take long to be built."""
_collected: set[str] = set()
"""The accounts that this process has collected in."""
_log = get_logger(__name__)


async def delete(service: Service, native: Any, *, patient: bool = True) -> list[str]:
    """Delete a sandbox, and each closed one of which the last fork is gone with it.

    Return the ids of those deleted. A sandbox that is gone already is not among them; one that
    has forks is marked as closed instead. A refusal is taken for passing if we are `patient`.
    """
    deleted: list[str] = []
    try:
        while native is not None:
            parent = _parent_of(native)  # before its name is another
            end = await _delete_or_mark(service, native, patient=patient)
            if end == "closed":
                break
            if end == "deleted":
                deleted.append(native.id)
            native = await _if_closed(service, parent)
    except BaseException:
        _collected.discard(service.key)  # the next sandbox of this process collects again
        raise
    return deleted


async def delete_again(service: Service, native: Any) -> None:
    """As `delete`, by another client than the closed one that `native` belongs to."""
    there = await find_by_name(service, native.id) or await _if_closed(service, _parent_of(native))
    if there is not None:
        await delete(service, there)


async def _delete_or_mark(
    service: Service, native: Any, *, patient: bool
) -> Literal["deleted", "gone", "closed"]:
    """Delete it; one that has forks is marked as closed, and stopped."""

    async def once() -> Literal["deleted", "gone", "closed"]:
        try:
            await native.delete(timeout=DELETE_DEADLINE)
        except sdk().DaytonaNotFoundError:
            return "gone"
        except sdk().DaytonaError as error:
            if error.status_code in REFUSED and await _mark_if_forked(service, native):
                return "closed"
            raise
        return "deleted"

    # While its state changes, a service may refuse.
    end = await service.call("deleting a sandbox", once, refused_is_passing=patient)
    if end == "closed":
        await _stop(service, native)
    return end


async def _stop(service: Service, native: Any) -> None:
    """Stop a sandbox that Daytona keeps, so that its processes die."""

    async def once() -> None:
        try:
            if native.auto_delete_interval == 0:  # then stopping deletes, which is refused
                await native.set_auto_delete_interval(CLOSED_MINUTES)
            await native.stop(timeout=DELETE_DEADLINE)
        except sdk().DaytonaNotFoundError:
            return
        except sdk().DaytonaError as error:
            if error.status_code not in REFUSED:
                raise
            await native.refresh_data()
            if state_of(native) == "started":
                raise

    if state_of(native) not in ("stopped", "archived"):
        await service.call("stopping a sandbox", once, refused_is_passing=True)


async def _mark_if_forked(service: Service, native: Any) -> bool:
    if not await _has_forks(service, native):
        return False
    if not is_closed(native):
        await set_labels(service, native, CLOSED)
    # A process that deleted the last fork before the mark was there has not seen it.
    return await _has_forks(service, native)


async def _has_forks(service: Service, native: Any) -> bool:
    if await listed(service, {PARENT_LABEL: native.id}):
        return True
    same = await listed(service, {LABEL: native.labels[LABEL]})
    return any(is_unfinished(each) for each in same if each.id != native.id)


def _parent_of(native: Any) -> str | None:
    """Return what the sandbox is called that it was forked from."""
    told = native.labels or {}
    return told.get(LABEL if is_unfinished(native) else PARENT_LABEL)


async def _if_closed(service: Service, parent: str | None) -> Any | None:
    """Return the sandbox that is called so, if it is closed."""
    found = None if parent is None else await find_by_name(service, parent)
    return found if found is not None and is_closed(found) else None


async def remove(service: Service, sandbox_id: str) -> bool:
    """Delete one, see `delete`; return False if it is not there, or not ours."""
    native = await find_by_name(service, sandbox_id)
    if native is None or LABEL not in (native.labels or {}):
        return False
    try:
        await delete(service, native)
    except ServiceError as error:
        if error.status in REFUSED and is_being_made(native):
            raise SandboxError(
                f"sandbox {sandbox_id} is still being made ({state_of(native)}), and Daytona "
                f"deletes none until then: try again later, or run paddock gc --backend {BACKEND}"
            ) from None
        raise
    return True


async def remove_by_name(service: Service, name: str, *, within: float) -> None:
    """Delete what is called so, also if it only appears within so many seconds.

    One that is being made is deleted as soon as it is made.
    """
    loop = asyncio.get_running_loop()
    end, made = loop.time() + within, loop.time() + MAKING_DEADLINE
    while True:
        native = await find_by_name(service, name)
        if native is None and loop.time() > end:
            return
        if native is not None:
            try:
                await delete(service, native)
                return
            except ServiceError as error:
                if error.status not in REFUSED or not is_being_made(native) or loop.time() > made:
                    raise
        await asyncio.sleep(LOOK_AGAIN)


async def collect(service: Service) -> list[str]:
    """Delete the sandboxes of this machine whose owner is gone, and closed ones without forks.

    Return the ids of those deleted. Those that Daytona does not delete yet are left to the next
    time, with a warning.
    """
    await asyncio.to_thread(owner.forget_dead)
    prefix = await asyncio.to_thread(fork_prefix)
    here = await listed(service, {HOST_LABEL: owner.host_id()})
    forks = await listed(service, {}, prefix=prefix)
    left = [native for native in here if not is_unfinished(native)]
    left += [native for native in forks if is_unfinished(native)]
    gone = [each for each in left if not outlives(each) and not owner.is_owned(lock_of(each))]
    deleted = await _delete_all(
        service, [each for each in gone if await _is_as_told(service, each)]
    )
    closed = [native for native in await listed(service, CLOSED) if is_closed(native)]
    return list(dict.fromkeys([*deleted, *await _delete_all(service, closed)]))


async def _is_as_told(service: Service, native: Any) -> bool:
    """Whether what a list says still holds: its index may be seconds behind, and a sandbox without
    a lease have become its maker's meanwhile."""
    if adoption.LABEL not in (native.labels or {}):
        return True
    there = await find_by_name(service, native.id)
    return there is not None and not outlives(there)


async def _delete_all(service: Service, natives: Sequence[Any]) -> list[str]:
    """Delete each; raise `SandboxError` if some could not be, for another reason than that they
    are being made."""
    results = await asyncio.gather(
        *(delete(service, each, patient=not is_being_made(each)) for each in natives),
        return_exceptions=True,
    )
    deleted: dict[str, None] = {}
    failures: list[str] = []
    for native, result in zip(natives, results, strict=True):
        if not isinstance(result, BaseException):
            deleted |= dict.fromkeys(result)
        elif not isinstance(result, ServiceError):
            raise result
        elif result.status in REFUSED and is_being_made(native):
            _log.warning(
                "sandbox %s is still being made, and Daytona deletes none until then: run "
                "paddock gc --backend %s again later",
                native.id,
                BACKEND,
            )
        else:
            failures.append(f"{native.id} ({result})")
    if failures:
        raise SandboxError(f"Daytona did not delete {len(failures)}: {', '.join(failures)}")
    return list(deleted)


async def collect_once(service: Service) -> None:
    """The same, the first time that this process uses an account; no reason to do without it, but
    that the service cannot be reached."""
    if service.key in _collected:
        return
    try:
        await collect(service)
    except ServiceUnreachable:
        raise
    except SandboxError as error:
        _log.warning("what dead processes have left in Daytona is there still: %s", error)
    else:
        _collected.add(service.key)
