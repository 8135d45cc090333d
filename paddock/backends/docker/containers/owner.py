"""The labels by which a container names its owner, and the containers whose owners are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.backends import containers
from paddock.backends.containers import HOST_LABEL, LABEL
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
]

JOIN_TOKEN_LABEL = "dev.paddock.join-token"
"""The key by which a host proves to the guest that it may join. Every user who may inspect the
container has it."""
LEASE_LABEL = "dev.paddock.lease"
"""Seconds; empty for a sandbox that outlives its owners."""
USER_LABEL = "dev.paddock.user"
"""The user of commands, where the container's first process is root to start them."""
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
    # No sweep judges a sandbox that is meant to outlive its owner.
    return {
        **containers.labels_of(name, own, host=None if lease is None else host_id()),
        JOIN_TOKEN_LABEL: join_token,
        LEASE_LABEL: "" if lease is None else str(lease),
        **({} if user is None else {USER_LABEL: user}),
    }


def abandoned(client: APIClient, filters: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the sandboxes of this host whose owners are gone, and the ids of their containers;
    remove the lock files of those owners. `filters` are the engine's."""
    forget_dead()
    here = f"{HOST_LABEL}={host_id()}"
    found = client.containers(all=True, filters={"label": here, **filters})
    ours = {each["Labels"][LABEL]: each for each in found if is_ours(client, each)}
    return {name: each["Id"] for name, each in ours.items() if not is_owned(name)}


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
