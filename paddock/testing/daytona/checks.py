"""What the service refuses before it does anything: networks, intervals, images, limits of lists.

Each function raises `ApiError` in the service's words.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from paddock.testing.daytona.envelope import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_image", "check_interval", "check_intervals", "check_network", "check_page"]

ENTRIES = 10
"""Of a list of addresses or of names."""
PAGES = (1, 200)
_NAME = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", re.IGNORECASE)
_WORDS = {
    "autoStopInterval": "Auto-stop interval",
    "autoPauseInterval": "Auto-pause interval",
    "autoArchiveInterval": "Auto-archive interval",
    "ttlMinutes": "TTL",
}


def check_network(wanted: Mapping[str, Any]) -> None:
    for block in _entries(wanted, "networkAllowList", "Network allow list"):
        try:
            ipaddress.IPv4Network(block, strict=False)
        except ValueError as error:
            raise ApiError(400, f"Invalid CIDR block in network allow list: {block}") from error
    for name in _entries(wanted, "domainAllowList", "Domain allow list"):
        if not _NAME.fullmatch(name):
            raise ApiError(400, f'Invalid domain in domain allow list: "{name}"')


def _entries(wanted: Mapping[str, Any], field: str, words: str) -> list[str]:
    found = [each.strip() for each in (wanted.get(field) or "").split(",") if each.strip()]
    if len(found) > ENTRIES:
        raise ApiError(400, f"{words} cannot contain more than {ENTRIES} entries")
    return found


def check_intervals(wanted: Mapping[str, Any]) -> None:
    for name in _WORDS:
        if wanted.get(name) is not None:
            check_interval(name, wanted[name])


def check_interval(name: str, minutes: int) -> None:
    """Deletion alone may be told as below 0, which is never."""
    if name in _WORDS and minutes < 0:
        raise ApiError(400, f"{_WORDS[name]} must be non-negative")


def check_page(limit: int) -> int:
    """Return how many items a page has."""
    least, most = PAGES
    if not least <= limit <= most:
        raise ApiError(400, f"limit must not be less than {least} or greater than {most}")
    return limit


def check_image(name: str) -> None:
    """Of a snapshot: the service takes none whose content may change."""
    if "@sha256:" in name:
        return
    if ":" not in name or name.endswith(":"):
        raise ApiError(
            400, "Image name must include a tag (e.g., ubuntu:22.04) or digest (@sha256:...)"
        )
    if name.endswith(":latest"):
        raise ApiError(400, 'Images with tag ":latest" are not allowed')
