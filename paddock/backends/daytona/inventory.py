"""What of ours is in an account, seen from outside: listed and found."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from paddock._frozen import FrozenMapping
from paddock.backends import owner
from paddock.backends.base import SandboxInfo
from paddock.backends.daytona import adoption
from paddock.backends.daytona.failures import ServiceError, sdk
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.daytona.plan import Plan
    from paddock.backends.daytona.service import Service

__all__ = [
    "BACKEND",
    "CLOSED",
    "HOST_LABEL",
    "LABEL",
    "MAKING",
    "PARENT_LABEL",
    "claim_fork",
    "find",
    "find_by_name",
    "fork_prefix",
    "is_being_made",
    "is_closed",
    "is_going",
    "is_unfinished",
    "labels",
    "listed",
    "listing",
    "lock_of",
    "outlives",
    "own_labels",
    "set_labels",
    "state_of",
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
LABEL_PREFIX = "dev.paddock.label."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

MAKING = frozenset({"creating", "pending_build", "building_snapshot", "pulling_snapshot"})

LOOKING = 30.0
"""Seconds in which a service answers that is asked what there is; it is asked again then."""

State = Literal["starting", "running", "paused", "ended"]
STATES: dict[str, State] = {
    **dict.fromkeys(("creating", "restoring", "pending_build", "building_snapshot"), "starting"),
    **dict.fromkeys(("pulling_snapshot", "starting", "forking", "resuming"), "starting"),
    **dict.fromkeys(("started", "resizing", "snapshotting"), "running"),
    **dict.fromkeys(("pausing", "paused"), "paused"),
}
"""Daytona's words and ours; its others are ends, or as good as ends."""


def labels(plan: Plan, name: str) -> dict[str, str]:
    """Return the labels that name a sandbox's owner from its creation on."""
    own = {LABEL_PREFIX + key: value for key, value in plan.labels.items()}
    return {LABEL: name, HOST_LABEL: owner.host_id(), **adoption.label(plan), **own}


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
    found = [_seen(native, here) for native in await listed(service, prefixed)]
    return sorted(found, key=lambda info: info.created)


async def listed(
    service: Service, wanted: Mapping[str, str], *, prefix: str | None = None
) -> list[Any]:
    """Return ours that have the labels `wanted` and a name that begins with `prefix`."""

    async def look() -> list[Any]:
        query = sdk().ListSandboxesQuery(labels=dict(wanted) or None, name=prefix)
        return [native async for native in service.client.list(query, request_timeout=LOOKING)]

    found = await service.look("listing sandboxes", look)
    return [each for each in found if LABEL in (each.labels or {}) and not is_going(each)]


def state_of(native: Any) -> str:
    """The service's word for the state of a sandbox or a snapshot; the SDK may not know it."""
    return str(getattr(native.state, "value", native.state))


def is_being_made(native: Any) -> bool:
    """Whether it has never run yet. Daytona deletes none that is, for as long as that takes."""
    return state_of(native) in MAKING


def is_going(native: Any) -> bool:
    """Whether it is deleted, which takes Daytona a while."""
    return state_of(native) in ("destroying", "destroyed")


def _seen(native: Any, here: str) -> SandboxInfo:
    told = native.labels
    created = str(native.created_at or "1970-01-01T00:00:00+00:00")
    return SandboxInfo(
        id=native.id,
        backend="daytona",
        state="ended" if is_closed(native) else STATES.get(state_of(native), "ended"),
        owner="gone" if is_closed(native) else _owner(native, here),
        created=datetime.fromisoformat(created).astimezone(UTC),
        image=native.snapshot,
        labels=FrozenMapping(own_labels(told)),
    )


def _owner(native: Any, here: str) -> Literal["alive", "gone", "unknown"]:
    if is_unfinished(native):
        is_here = native.name.startswith(fork_prefix())
    else:
        is_here = native.labels.get(HOST_LABEL) == here
    if not is_here or outlives(native):
        return "unknown"
    return "alive" if owner.is_alive(lock_of(native)) else "gone"


async def find(service: Service, sandbox_id: str) -> Any:
    """The SDK's object for a sandbox of ours; `ConfigError` if there is none."""
    native = await find_by_name(service, sandbox_id)
    if native is None or LABEL not in (native.labels or {}):
        raise ConfigError(f"no sandbox of ours is called {sandbox_id}")
    if is_unfinished(native):
        raise ConfigError(f"sandbox {sandbox_id} is a fork that is not finished")
    if is_closed(native):
        raise ConfigError(f"sandbox {sandbox_id} is closed; Daytona keeps it until its forks go")
    return native


async def find_by_name(service: Service, name: str) -> Any | None:
    if not NAME.fullmatch(name):
        return None  # it would be a part of the address that is asked
    try:
        native = await service.look(
            f"looking for {name}", lambda: service.client.get(name, LOOKING)
        )
    except ServiceError as error:
        if error.status == 404:
            return None
        raise
    return None if is_going(native) else native


async def claim_fork(service: Service, native: Any, told: Mapping[str, str], parent: str) -> None:
    """Replace the labels that a fork has from the sandbox `parent` by its own."""
    await set_labels(service, native, {**told, PARENT_LABEL: parent})


async def set_labels(service: Service, native: Any, told: Mapping[str, str]) -> None:
    kept = {key: value for key, value in (native.labels or {}).items() if key != CLOSED_LABEL}
    await service.call("labelling a sandbox", lambda: native.set_labels({**kept, **told}))


def lock_of(native: Any) -> str:
    """Return the name of its owner's lock."""
    return str(native.name if is_unfinished(native) else native.labels[LABEL])


def is_closed(native: Any) -> bool:
    told = native.labels or {}
    return LABEL in told and CLOSED_LABEL in told and not is_unfinished(native)


def is_unfinished(native: Any) -> bool:
    """Return whether it is a fork whose maker has not labelled it yet."""
    told = native.labels or {}
    return str(native.name).startswith(FORK) and told.get(LABEL) != native.name


def outlives(native: Any) -> bool:
    """Whether it is one without a lease, which its maker had."""
    told = native.labels or {}
    if is_unfinished(native):
        return False
    return adoption.LABEL in told and not adoption.is_unadopted(native)
