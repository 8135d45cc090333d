"""What a container says of its owner, and what is left on an engine of owners that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.backends.owner import OwnerLock, forget_dead, host_id, is_alive, is_owned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

__all__ = [
    "HOST_LABEL",
    "LABEL",
    "LABELS",
    "OwnerLock",
    "abandoned",
    "host_id",
    "is_alive",
    "is_ours",
]

LABEL = "dev.paddock.sandbox"
"""Holds a sandbox's id, which is its container's name; see `is_ours`."""
HOST_LABEL = "dev.paddock.host"
"""Where its owner's lock file is, see `host_id`."""

WORD_LABEL = "dev.paddock.word"
"""What a host has to say to the guest to join it: whoever may look at a container may join."""
LEASE_LABEL = "dev.paddock.lease"
"""Seconds, or nothing for a sandbox that outlives its owners."""
LABELS = (LABEL, HOST_LABEL, WORD_LABEL, LEASE_LABEL)
"""What is said of one container, and not of what is made from its files."""


def abandoned(client: APIClient, filters: Mapping[str, list[str]]) -> list[str]:
    """The containers of this place whose owner is gone, as far as the engine's `filters` let
    them through; their lock files go with this."""
    forget_dead()
    ours = client.containers(all=True, filters={"label": f"{HOST_LABEL}={host_id()}", **filters})
    names = [found["Labels"][LABEL] for found in ours if is_ours(found)]
    return [name for name in names if not is_owned(name)]


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether a container, as a listing tells it, bears the name that its label tells.

    One that somebody started from an image of a sandbox has only inherited the label.
    """
    return f"/{found['Labels'][LABEL]}" in found["Names"]
