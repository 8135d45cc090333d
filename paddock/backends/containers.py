"""Containers as engines list them: the labels by which ours name their makers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from paddock._frozen import FrozenMapping
from paddock.backends import owner
from paddock.backends.base import SandboxInfo
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "FENCED",
    "HOST_LABEL",
    "INSTALLING",
    "LABEL",
    "MEMORY",
    "OWN_LABELS",
    "PIDS",
    "SPILL_DIR",
    "describe",
    "labels_of",
    "own_labels",
    "select",
]

LABEL = "dev.paddock.sandbox"
"""Holds a sandbox's id, which its container is created with as its name."""
HOST_LABEL = "dev.paddock.host"
"""Where its owner's lock file is, see `owner.host_id`."""
OWN_LABELS = "dev.paddock.labels"
"""The recipe's own labels as JSON. They are one label, as a container has those of its image too,
which may be a snapshot of another sandbox."""
INSTALLING = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
"""Capabilities of a root that installs packages and ends other users' processes."""
MEMORY = 4 * 1024**3
PIDS = 512
"""Bounds of a sandbox whose recipe gives none."""
SPILL_DIR = "/tmp/.paddock"
FENCED = frozenset({Capability.ISOLATION, Capability.NETWORK_NONE, Capability.NETWORK_ALLOWLIST})
STATES: dict[str, Literal["starting", "running", "paused"]] = {
    "created": "starting",
    "restarting": "starting",
    "running": "running",
    "paused": "paused",
}
"""Our words for the engines'; their other states (removing, exited, dead) are ends."""


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the recipe's own labels, from those of a container."""
    found: dict[str, str] = json.loads(labels.get(OWN_LABELS, "{}"))
    return found


def labels_of(name: str, own: Mapping[str, str], *, host: str | None) -> dict[str, str]:
    """Return the labels of a new container, whose maker's lock is at `host` if it has one."""
    found = {LABEL: name, OWN_LABELS: json.dumps(dict(own))}
    return found if host is None else {**found, HOST_LABEL: host}


def select(
    listed: Iterable[Mapping[str, Any]], labels: Mapping[str, str], *, backend: str
) -> list[SandboxInfo]:
    """Return what an engine's listing includes of our containers that have `labels`, oldest
    first; blocks."""
    here = owner.host_id()
    found = [describe(each, here, backend=backend) for each in listed]
    wanted = [each for each in found if labels.items() <= each.labels.items()]
    return sorted(wanted, key=lambda info: info.created)


def describe(found: Mapping[str, Any], here: str, *, backend: str) -> SandboxInfo:
    """Return what an engine's listing includes of a container of ours; `here` is `host_id()`."""
    labels: dict[str, str] = found["Labels"]
    return SandboxInfo(
        id=labels[LABEL],
        backend=backend,
        state=STATES.get(found["State"], "ended"),
        owner=_owner(labels, here),
        created=datetime.fromtimestamp(found["Created"], UTC),
        image=found["Image"],
        labels=FrozenMapping(own_labels(labels)),
    )


def _owner(labels: Mapping[str, str], here: str) -> Literal["alive", "gone", "unknown"]:
    if labels.get(HOST_LABEL) != here:
        return "unknown"
    return "alive" if owner.is_alive(labels[LABEL]) else "gone"
