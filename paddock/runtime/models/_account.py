"""Where a model's service is, and the key for it: as given, else from the environment."""

from __future__ import annotations

import os

from paddock.errors import ConfigError

__all__ = ["account"]


def account(service: str, base_url: str | None, api_key: str | None) -> tuple[str | None, str]:
    """Address and key, from ``SERVICE_BASE_URL`` and ``SERVICE_API_KEY`` where they are not given.

    A key that there is not is empty. Raises `ConfigError` for an address that is none.
    """
    base_url = base_url or os.environ.get(f"{service}_BASE_URL") or None
    api_key = (api_key or os.environ.get(f"{service}_API_KEY") or "").strip()
    if base_url and not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"base_url {base_url!r} does not begin with http:// or https://")
    return base_url, api_key
