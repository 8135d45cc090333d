"""The labels by which a container names its owner, and the containers whose owners are gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paddock.backends.owner import OwnerLock, forget_dead, host_digest, host_id, is_alive, is_owned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

__all__ = [
    "CHANGED_LABEL",
    "HOST_LABEL",
    "JOIN_TOKEN_LABEL",
    "LABEL",
    "LABELS",
    "LEASE_LABEL",
    "USER_LABEL",
    "OwnerLock",
    "abandoned",
    "host_digest",
    "host_id",
    "is_alive",
    "is_ours",
    "labels_of",
    "own_labels",
]

LABEL = "dev.paddock.sandbox"
"""Holds a sandbox's id, which its container is created with as its name; see `is_ours`."""
HOST_LABEL = "dev.paddock.host"
"""Where its owner's lock file is, see `host_id`."""

JOIN_TOKEN_LABEL = "dev.paddock.join-token"
"""The key by which a host proves to the guest that it may join. Everybody who may inspect the
container has it."""
LEASE_LABEL = "dev.paddock.lease"
"""Seconds; empty for a sandbox that outlives its owners."""
USER_LABEL = "dev.paddock.user"
"""The user of commands, where the container's first process is root to start them."""
OWN_LABELS = "dev.paddock.labels"
"""The recipe's own labels as JSON. They are one label, as a container has those of its image too,
which may be a snapshot of another sandbox."""
LABELS = (LABEL, HOST_LABEL, JOIN_TOKEN_LABEL, LEASE_LABEL, USER_LABEL)
"""Labels of one container, which an image of its files must not have."""
CHANGED_LABEL = "dev.paddock.changed"
"""Set on an image of a sandbox's files whose commands could have replaced its Python: no guest
on it is given more rights than its commands have."""


def labels_of(
    name: str,
    *,
    join_token: str,
    lease: float | None,
    own: Mapping[str, str],
    user: str | None,
) -> dict[str, str]:
    """Return the labels of a new container; `user` is given if the guest is root. Blocks."""
    return {
        LABEL: name,
        JOIN_TOKEN_LABEL: join_token,
        LEASE_LABEL: "" if lease is None else str(lease),
        # No sweep judges a sandbox that is meant to outlive its owner.
        **({} if lease is None else {HOST_LABEL: host_id()}),
        **({} if user is None else {USER_LABEL: user}),
        OWN_LABELS: json.dumps(dict(own)),
    }


def own_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the recipe's own labels, from those of a container."""
    found: dict[str, str] = json.loads(labels.get(OWN_LABELS, "{}"))
    return found


def abandoned(client: APIClient, filters: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the sandboxes of this host whose owners are gone, and the ids of their containers;
    remove the lock files of those owners. `filters` are the engine's."""
    forget_dead()
    here = f"{HOST_LABEL}={host_id()}"
    containers = client.containers(all=True, filters={"label": here, **filters})
    ours = {found["Labels"][LABEL]: found for found in containers if is_ours(client, found)}
    return {name: found["Id"] for name, found in ours.items() if not is_owned(name)}


def is_ours(client: APIClient, found: Mapping[str, Any]) -> bool:
    """Return whether Paddock created a container that a listing includes; asks the engine if it
    was renamed.

    A container that somebody started from an image of a sandbox has inherited the sandbox's
    labels, but neither its name nor its host name: no image has those.
    """
    name = found["Labels"][LABEL]
    if f"/{name}" in (found["Names"] or ()):
        return True
    from docker.errors import NotFound

    try:
        config = client.inspect_container(found["Id"])["Config"]
    except NotFound:
        return False
    return bool(name) and config["Hostname"] == name
