"""Errors about users, the same on all backends."""

from __future__ import annotations

import re

from paddock.errors import ConfigError

__all__ = ["UNKNOWN_TO_ENGINE", "unknown_user"]

UNKNOWN_TO_ENGINE = re.compile(r"unable to find (user|group)|uids and gids must be in range")
"""How an engine says that a container has no such user."""


def unknown_user(user: str) -> ConfigError:
    """Return the error for a `user` that the sandbox does not have, or whose group it lacks."""
    return ConfigError(
        f"user={user!r}: the sandbox has no such user or group; give a name that its /etc/passwd "
        "has, or numbers, as in user='1000:1000'"
    )
