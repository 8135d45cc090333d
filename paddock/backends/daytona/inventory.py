"""What of ours is in an account, seen from outside: listed, found, removed, swept."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from paddock._frozen import FrozenMapping
from paddock._logs import get_logger
from paddock.backends import owner
from paddock.backends.base import SandboxInfo
from paddock.backends.daytona.service import REFUSED, ServiceError, sdk
from paddock.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.daytona.plan import Plan
    from paddock.backends.daytona.service import Service

__all__ = [
    "BACKEND",
    "claim_fork",
    "collect",
    "collect_once",
    "delete",
    "delete_again",
    "find",
    "find_by_name",
    "fork_prefix",
    "labels",
    "listing",
    "own_labels",
    "remove",
    "remove_by_name",
]

BACKEND = "daytona"
LABEL = "dev.paddock.sandbox"
"""Holds the name of its owner's lock, which is the sandbox's own name too. Until a fork has labels
of its own, it has its parent's; then the two names differ."""
FORK = "paddock-fork-"
"""How the names of forks begin; the digest of their maker's host follows."""
HOST_LABEL = "dev.paddock.host"
PARENT_LABEL = "dev.paddock.parent"
"""The id of the sandbox that a fork was made from."""
CLOSED_LABEL = "dev.paddock.closed"
"""Marks a sandbox that was deleted while it had forks. Daytona keeps such a sandbox; whoever
deletes the last of the forks deletes it too, and so does `collect`."""
CLOSED = {CLOSED_LABEL: "yes"}
CLOSED_MINUTES = 60
"""Minutes after which Daytona deletes a closed sandbox itself, if its forks are gone and nobody
noticed."""
LABEL_PREFIX = "dev.paddock.label."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
DELETE_DEADLINE = 60.0
LOOK_AGAIN = 0.5
"""Seconds between two looks for a sandbox that may yet appear."""

State = Literal["starting", "running", "paused", "ended"]
STATES: dict[str, State] = {
    **dict.fromkeys(("creating", "restoring", "pending_build", "building_snapshot"), "starting"),
    **dict.fromkeys(("pulling_snapshot", "starting", "forking", "resuming"), "starting"),
    **dict.fromkeys(("started", "resizing", "snapshotting"), "running"),
    **dict.fromkeys(("pausing", "paused"), "paused"),
}
"""Daytona's words and ours; its others are ends, or as good as ends."""


def labels(plan: Plan, name: str) -> dict[str, str]:
    """Return the labels that tell of a sandbox's owner from its creation on."""
    leased = {} if plan.lease is None else {HOST_LABEL: owner.host_id()}
    own = {LABEL_PREFIX + key: value for key, value in plan.labels.items()}
    return {LABEL: name, **leased, **own}


def fork_prefix() -> str:
    """Return what the names of forks begin with that are made on this host; blocks."""
    return f"{FORK}{owner.host_digest()}-"


def own_labels(told: Mapping[str, str]) -> dict[str, str]:
    """What the recipe called its labels."""
    return {
        key.removeprefix(LABEL_PREFIX): value
        for key, value in told.items()
        if key.startswith(LABEL_PREFIX)
    }


async def listing(service: Service, wanted: Mapping[str, str]) -> list[SandboxInfo]:
    """Our sandboxes, in whatever state, oldest first."""
    here = owner.host_id()
    prefixed = {LABEL_PREFIX + key: value for key, value in wanted.items()}
    found = [_seen(native, here) for native in await _all(service, prefixed)]
    return sorted(found, key=lambda info: info.created)


async def _all(
    service: Service, wanted: Mapping[str, str], *, prefix: str | None = None
) -> list[Any]:
    """Return ours that have the labels `wanted` and a name that begins with `prefix`."""

    async def look() -> list[Any]:
        query = sdk().ListSandboxesQuery(labels=dict(wanted) or None, name=prefix)
        return [native async for native in service.client.list(query)]

    found = await service.call("listing sandboxes", look)
    return [each for each in found if LABEL in (each.labels or {}) and not is_going(each)]


def is_going(native: Any) -> bool:
    """Whether it is deleted, which takes Daytona a while."""
    return str(native.state.value) in ("destroying", "destroyed")


def _seen(native: Any, here: str) -> SandboxInfo:
    told = native.labels
    created = str(native.created_at or "1970-01-01T00:00:00+00:00").replace("Z", "+00:00")
    return SandboxInfo(
        id=native.id,
        backend="daytona",
        state="ended" if _is_closed(native) else STATES.get(str(native.state.value), "ended"),
        owner="gone" if _is_closed(native) else _owner(native, here),
        created=datetime.fromisoformat(created).astimezone(UTC),
        image=native.snapshot,
        labels=FrozenMapping(own_labels(told)),
    )


def _owner(native: Any, here: str) -> Literal["alive", "gone", "unknown"]:
    if _is_unfinished(native):
        is_here = native.name.startswith(fork_prefix())
    else:
        is_here = native.labels.get(HOST_LABEL) == here
    if not is_here:
        return "unknown"
    return "alive" if owner.is_alive(_lock_of(native)) else "gone"


async def find(service: Service, sandbox_id: str) -> Any:
    """The SDK's object for a sandbox of ours; `ConfigError` if there is none."""
    native = await find_by_name(service, sandbox_id)
    if native is None or LABEL not in (native.labels or {}):
        raise ConfigError(f"no sandbox of ours is called {sandbox_id}")
    if _is_unfinished(native):
        raise ConfigError(f"sandbox {sandbox_id} is a fork that is not finished")
    if _is_closed(native):
        raise ConfigError(f"sandbox {sandbox_id} is closed; Daytona keeps it until its forks go")
    return native


async def find_by_name(service: Service, name: str) -> Any | None:
    if not NAME.fullmatch(name):
        return None  # it would be a part of the address that is asked
    try:
        native = await service.call(f"looking for {name}", lambda: service.client.get(name))
    except ServiceError as error:
        if error.status == 404:
            return None
        raise
    return None if is_going(native) else native


async def claim_fork(service: Service, native: Any, told: Mapping[str, str], parent: str) -> None:
    """Replace the labels that a fork has from the sandbox `parent` by its own."""
    await _set_labels(service, native, {**told, PARENT_LABEL: parent})


async def _set_labels(service: Service, native: Any, told: Mapping[str, str]) -> None:
    kept = {key: value for key, value in (native.labels or {}).items() if key != CLOSED_LABEL}
    await service.call("labelling a sandbox", lambda: native.set_labels({**kept, **told}))


async def delete(service: Service, native: Any) -> list[str]:
    """Delete a sandbox, and each closed one of which the last fork is gone with it.

    Return the ids of those deleted. A sandbox that is gone, or going, counts as deleted; one that
    has forks is marked as closed instead.
    """
    deleted: list[str] = []
    try:
        while native is not None and await _delete_or_mark(service, native):
            deleted.append(native.id)
            native = await _closed_parent(service, native)
    except BaseException:
        _collected.discard(service.key)  # the next sandbox of this process collects again
        raise
    return deleted


async def delete_again(service: Service, native: Any) -> None:
    """As `delete`, by another client than the closed one that `native` belongs to."""
    there = await find_by_name(service, native.id) or await _closed_parent(service, native)
    if there is not None:
        await delete(service, there)


async def _delete_or_mark(service: Service, native: Any) -> bool:
    """Return False if it has forks, and is marked as closed."""

    async def once() -> bool:
        try:
            await native.delete(timeout=DELETE_DEADLINE)
        except sdk().DaytonaNotFoundError:
            return True
        except sdk().DaytonaError as error:
            if error.status_code in REFUSED and await _mark_if_forked(service, native):
                return False
            raise
        return True

    # While its state changes, a service may refuse.
    if await service.call("deleting a sandbox", once, refused_is_passing=True):
        return True
    await _stop(service, native)
    return False


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
            if str(native.state.value) == "started":
                raise

    if str(native.state.value) not in ("stopped", "archived"):
        await service.call("stopping a sandbox", once, refused_is_passing=True)


async def _mark_if_forked(service: Service, native: Any) -> bool:
    if not await _has_forks(service, native):
        return False
    if not _is_closed(native):
        await _set_labels(service, native, CLOSED)
    # Whoever deleted the last fork before the mark was there has not seen it.
    return await _has_forks(service, native)


async def _has_forks(service: Service, native: Any) -> bool:
    if await _all(service, {PARENT_LABEL: native.id}):
        return True
    same = await _all(service, {LABEL: native.labels[LABEL]})
    return any(_is_unfinished(each) for each in same if each.id != native.id)


def _lock_of(native: Any) -> str:
    """Return the name of its owner's lock."""
    return str(native.name if _is_unfinished(native) else native.labels[LABEL])


async def _closed_parent(service: Service, native: Any) -> Any | None:
    """Return the sandbox that it was forked from, if that is closed."""
    told = native.labels or {}
    parent = told.get(LABEL if _is_unfinished(native) else PARENT_LABEL)
    found = None if parent is None else await find_by_name(service, parent)
    return found if found is not None and _is_closed(found) else None


def _is_closed(native: Any) -> bool:
    told = native.labels or {}
    return LABEL in told and CLOSED_LABEL in told and not _is_unfinished(native)


def _is_unfinished(native: Any) -> bool:
    """Return whether it is a fork whose maker has not labelled it yet."""
    told = native.labels or {}
    return str(native.name).startswith(FORK) and told.get(LABEL) != native.name


async def remove(service: Service, sandbox_id: str) -> bool:
    """Delete one, see `delete`; return False if it is not there, or not ours."""
    native = await find_by_name(service, sandbox_id)
    if native is None or LABEL not in (native.labels or {}):
        return False
    await delete(service, native)
    return True


async def remove_by_name(service: Service, name: str, *, within: float) -> None:
    """Delete what is called so, also if it only appears within so many seconds."""
    end = asyncio.get_running_loop().time() + within
    while (native := await find_by_name(service, name)) is None:
        if asyncio.get_running_loop().time() > end:
            return
        await asyncio.sleep(LOOK_AGAIN)
    await delete(service, native)


async def collect(service: Service) -> list[str]:
    """Delete the sandboxes of this machine whose owner is gone, and closed ones without forks.

    Return the ids of those deleted.
    """
    await asyncio.to_thread(owner.forget_dead)
    prefix = await asyncio.to_thread(fork_prefix)
    here = await _all(service, {HOST_LABEL: owner.host_id()})
    forks = await _all(service, {}, prefix=prefix)
    left = [native for native in here if not _is_unfinished(native)]
    left += [native for native in forks if _is_unfinished(native)]
    gone = [native for native in left if not owner.is_owned(_lock_of(native))]
    deleted = await _delete_all(service, gone)
    closed = [native for native in await _all(service, CLOSED) if _is_closed(native)]
    return list(dict.fromkeys([*deleted, *await _delete_all(service, closed)]))


async def _delete_all(service: Service, natives: Sequence[Any]) -> list[str]:
    results = await asyncio.gather(
        *(delete(service, native) for native in natives), return_exceptions=True
    )
    deleted: dict[str, None] = {}
    for result in results:
        if isinstance(result, BaseException):
            raise result
        deleted |= dict.fromkeys(result)
    return list(deleted)


_collected: set[str] = set()
_log = get_logger(__name__)


async def collect_once(service: Service) -> None:
    """The same, the first time that this process uses an account; no reason to do without it."""
    if service.key in _collected:
        return
    try:
        await collect(service)
    except SandboxError:
        _log.warning("what dead processes have left in Daytona is there still", exc_info=True)
    else:
        _collected.add(service.key)
