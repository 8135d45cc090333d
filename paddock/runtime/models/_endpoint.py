"""Where a model's service is, and the key for it: as given, else from the environment."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass, field

from paddock.errors import ConfigError

__all__ = ["Endpoint", "account", "connection_settings"]

_CONNECTION_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""What HTTP clients read of the environment; of proxies in lower case too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A service and an account there: what tells one connection from another.

    `environment` has the variables that connections are made by.
    """

    service: str
    base_url: str | None
    api_key: str = field(repr=False)
    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def account(service: str, base_url: str | None, api_key: str | None) -> tuple[str | None, str]:
    """Return address and key, from ``SERVICE_BASE_URL`` and ``SERVICE_API_KEY`` if not given.

    Without a key it is empty. Raises `ConfigError` for an invalid address.
    """
    base_url = base_url or os.environ.get(f"{service}_BASE_URL") or None
    api_key = (api_key or os.environ.get(f"{service}_API_KEY") or "").strip()
    if base_url:
        base_url = base_url.strip()
        _check(base_url)
    return base_url, api_key


def connection_settings(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that decide how connections are made, and those of `prefixes`."""
    names = {*_CONNECTION_VARIABLES, *(name.lower() for name in _CONNECTION_VARIABLES)}
    return tuple(
        sorted(
            (name, value)
            for name, value in os.environ.items()
            if name in names or name.startswith(prefixes)
        )
    )


def _check(base_url: str) -> None:
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"base_url {base_url!r} does not begin with http:// or https://")
    try:
        parts = urllib.parse.urlsplit(base_url)
        wrong = "no host" if not parts.hostname else "port 0" if parts.port == 0 else None
    except ValueError as error:  # an invalid port or IPv6 address
        wrong = str(error)
    if wrong:
        raise ConfigError(f"base_url {base_url!r} is not valid: {wrong}")
