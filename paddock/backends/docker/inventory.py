"""What of ours is on an engine, seen from outside: listed, removed one by one, swept."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from paddock._frozen import FrozenMapping
from paddock.backends.base import SandboxInfo
from paddock.backends.docker import commits, owner
from paddock.backends.docker.control import remove_container

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from docker import APIClient

    from paddock.backends.docker.engine import Engine

__all__ = ["OWN_LABELS", "collect", "delete", "listing", "own_labels"]

OWN_LABELS = "dev.paddock.labels"
"""A recipe's own labels, in JSON: one label for all, as a container has those of its image too,
and that may be a snapshot of another sandbox."""

State = Literal["starting", "running", "paused", "ended"]
STATES: dict[str, State] = {
    "created": "starting",
    "restarting": "starting",
    "running": "running",
    "paused": "paused",
}
"""The engine's words and ours; its others (removing, exited, dead) are ends."""


async def listing(engine: Engine, labels: Mapping[str, str]) -> list[SandboxInfo]:
    """Our containers that have `labels`, in whatever state, oldest first."""
    found = await engine.call("listing sandboxes", _look, engine.client, owner.LABEL)
    found.reverse()  # the engine has the newest first, and tells no more than the second
    wanted = labels.items()
    return sorted(
        (info for info in found if wanted <= info.labels.items()), key=lambda info: info.created
    )


async def delete(engine: Engine, name: str) -> bool:
    """Remove one; False if it is not there, or not ours."""
    wanted = f"{owner.LABEL}={name}"
    found = await engine.call(f"looking for {name}", _look, engine.client, wanted)
    for info in found:
        await remove_container(engine, name)
        if info.image is not None:
            await commits.release(engine, info.image)
    return bool(found)


async def collect(engine: Engine, **filters: list[str]) -> list[str]:
    """Remove the containers whose owner is gone, and what forks of theirs began with; which
    they were.

    `filters`, such as ``status=["created"]``, are the engine's and for containers. If one cannot
    be removed the others are, and then its error is raised.
    """
    what = "looking for abandoned containers"
    left = await engine.call(what, owner.abandoned, engine.client, filters)
    results = await asyncio.gather(
        *(remove_container(engine, name) for name in left), return_exceptions=True
    )
    images = await commits.sweep(engine)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [*left, *images]


def _look(client: APIClient, wanted: str) -> list[SandboxInfo]:
    return list(_seen(client.containers(all=True, filters={"label": wanted})))


def _seen(containers: Iterable[dict[str, Any]]) -> Iterator[SandboxInfo]:
    here = owner.host_id()
    for found in containers:
        labels: dict[str, str] = found["Labels"]
        if owner.is_ours(found):
            yield SandboxInfo(
                id=labels[owner.LABEL],
                backend="docker",
                state=STATES.get(found["State"], "ended"),
                owner=_owner(labels, here),
                created=datetime.fromtimestamp(found["Created"], UTC),
                image=found["Image"],
                labels=FrozenMapping(own_labels(labels)),
            )


def _owner(labels: Mapping[str, str], here: str) -> Literal["alive", "gone", "unknown"]:
    if labels.get(owner.HOST_LABEL) != here:
        return "unknown"
    return "alive" if owner.is_alive(labels[owner.LABEL]) else "gone"


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """What the recipe called its labels."""
    found: dict[str, str] = json.loads(labels.get(OWN_LABELS, "{}"))
    return found
