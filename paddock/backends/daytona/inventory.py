"""What of ours is in an account, seen from outside: listed, found, removed, swept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from paddock._frozen import FrozenMapping
from paddock.backends import owner
from paddock.backends.base import SandboxInfo
from paddock.backends.daytona.service import ServiceError, sdk
from paddock.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.daytona.backend import DaytonaBackend
    from paddock.backends.daytona.service import Service

__all__ = [
    "claim",
    "collect",
    "collect_once",
    "delete",
    "find",
    "find_by_name",
    "labels",
    "listing",
    "own_labels",
    "remove",
    "remove_by_name",
]

LABEL = "dev.paddock.sandbox"
"""Holds the name of its owner's lock, which is the sandbox's own name too."""
HOST_LABEL = "dev.paddock.host"
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


def labels(backend: DaytonaBackend, name: str) -> dict[str, str]:
    """What a sandbox says of its owner from its creation on."""
    leased = {} if backend.lease is None else {HOST_LABEL: owner.host_id()}
    own = {LABEL_PREFIX + key: value for key, value in backend.labels.items()}
    return {LABEL: name, **leased, **own}


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


async def _all(service: Service, wanted: Mapping[str, str]) -> list[Any]:
    async def look() -> list[Any]:
        query = sdk().ListSandboxesQuery(labels=dict(wanted) or None)
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
        state=STATES.get(str(native.state.value), "ended"),
        owner=_owner(told, here),
        created=datetime.fromisoformat(created).astimezone(UTC),
        image=native.snapshot,
        labels=FrozenMapping(own_labels(told)),
    )


def _owner(told: Mapping[str, str], here: str) -> Literal["alive", "gone", "unknown"]:
    if told.get(HOST_LABEL) != here:
        return "unknown"
    return "alive" if owner.is_alive(told[LABEL]) else "gone"


async def find(service: Service, sandbox_id: str) -> Any:
    """The SDK's object for a sandbox of ours; `ConfigError` if there is none."""
    native = await find_by_name(service, sandbox_id)
    if native is None or LABEL not in (native.labels or {}):
        raise ConfigError(f"no sandbox of ours is called {sandbox_id}")
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


async def claim(service: Service, native: Any, told: Mapping[str, str]) -> None:
    """Let a sandbox say who owns it, that was made with another's labels."""
    whole = {**(native.labels or {}), **told}
    await service.call("labelling a sandbox", lambda: native.set_labels(whole))


async def delete(service: Service, native: Any) -> None:
    """Delete a sandbox; one that is gone, or going, is fine."""

    async def once() -> None:
        with contextlib.suppress(sdk().DaytonaNotFoundError):
            await native.delete(timeout=DELETE_DEADLINE)

    # While its state changes, a service may refuse.
    await service.call("deleting a sandbox", once, refused_is_passing=True)


async def remove(service: Service, sandbox_id: str) -> bool:
    """Delete one; False if it is not there, or not ours."""
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
    """Delete the sandboxes of this machine whose owner is gone; which they were."""
    await asyncio.to_thread(owner.forget_dead)
    left = [
        native
        for native in await _all(service, {HOST_LABEL: owner.host_id()})
        if not owner.is_owned(native.labels[LABEL])
    ]
    results = await asyncio.gather(
        *(delete(service, native) for native in left), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [native.id for native in left]


_collected: set[str] = set()
_log = logging.getLogger(__name__)


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
