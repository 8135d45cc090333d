"""Which sandboxes a list holds, in which order, on which page. Knows nothing of HTTP."""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from daytona_api_client_async import (
    SandboxClass,
    SandboxListSortDirection,
    SandboxListSortField,
    SandboxState,
)

from paddock.testing.daytona.envelope import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from multidict import MultiMapping

    from paddock.testing.daytona.index import Listed

__all__ = ["check_query", "matches", "read_cursor", "sort_key", "write_cursor"]

_Bounds: TypeAlias = "tuple[str, str, float | None, Callable[[str], float], str]"
"""The names of two bounds, the value that they are for, and how they are written."""
_KNOWN = {
    "states": {each.value for each in SandboxState},
    "sandboxClasses": {each.value for each in SandboxClass},
    "sort": {each.value for each in SandboxListSortField},
    "order": {each.value for each in SandboxListSortDirection},
    "isPublic": {"true", "false"},
    "isRecoverable": {"true", "false"},
}


def matches(sandbox: Listed, query: MultiMapping[str]) -> bool:
    """Whether it is in the list that `query` asks for; id and name match by their beginning.

    Raises `ApiError` 400.
    """
    lists = {
        "states": sandbox.state,
        "snapshots": sandbox.settings.get("snapshot"),
        "regionIds": sandbox.settings["target"],
        "sandboxClasses": sandbox.settings["sandboxClass"],
    }
    flags = {"isPublic": sandbox.settings["public"], "isRecoverable": sandbox.item["recoverable"]}
    return (
        _labels(query).items() <= sandbox.labels.items()
        and sandbox.id.lower().startswith(query.get("id", "").lower())
        and sandbox.name.lower().startswith(query.get("name", "").lower())
        and all(value in query.getall(name, [value]) for name, value in lists.items())
        and all(
            query.get(name, str(told)).lower() == str(told).lower() for name, told in flags.items()
        )
        and all(_within(query, *bounds) for bounds in _sizes(sandbox))
        and all(_within(query, *bounds) for bounds in _times(sandbox))
    )


def check_query(query: MultiMapping[str]) -> None:
    """Raise `ApiError` 400 for values that the service does not know."""
    for name, known in _KNOWN.items():
        for value in query.getall(name, []):
            if value not in known:
                raise ApiError(400, f"{name} must be one of: {', '.join(sorted(known))}")


def _labels(query: MultiMapping[str]) -> dict[str, str]:
    try:
        labels = json.loads(query.get("labels", "{}"))
    except ValueError as error:
        raise ApiError(400, "Invalid labels JSON format") from error
    if not isinstance(labels, dict):
        raise ApiError(400, "Labels must be a JSON object")
    return labels


def _sizes(sandbox: Listed) -> Iterator[_Bounds]:
    for name, field in (
        ("Cpu", "cpu"),
        ("MemoryGiB", "memory"),
        ("DiskGiB", "disk"),
        ("Gpu", "gpu"),
    ):
        yield f"min{name}", f"max{name}", float(sandbox.settings[field]), float, "a number"


def _times(sandbox: Listed) -> Iterator[_Bounds]:
    for name, field in (
        ("createdAt", "createdAt"),
        ("lastEvent", "lastActivityAt"),
        ("autoDestroyAt", "autoDestroyAt"),
    ):
        told = sandbox.item.get(field)
        value = None if told is None else _moment(told)
        yield f"{name}After", f"{name}Before", value, _moment, "a date"


def _moment(text: str) -> float:
    """Seconds since 1970 of an ISO date."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _within(
    query: MultiMapping[str],
    least: str,
    most: str,
    value: float | None,
    read: Callable[[str], float],
    kind: str,
) -> bool:
    """Whether `value` is between two bounds of the query; without a value, if there are none."""

    def bound(name: str, default: float) -> float:
        try:
            return read(query[name]) if name in query else default
        except ValueError:
            raise ApiError(400, f"{name} must be {kind}") from None

    low, high = bound(least, -math.inf), bound(most, math.inf)
    return low <= value <= high if value is not None else (low, high) == (-math.inf, math.inf)


def sort_key(name: str) -> Callable[[Listed], Any]:
    """What to sort by for a field that the API names `name`."""
    if name == "name":
        return lambda sandbox: sandbox.name
    if name == "lastActivityAt":
        return lambda sandbox: sandbox.active_at
    fields = {"cpu": "cpu", "memoryGib": "memory", "diskGib": "disk"}
    if name in fields:
        return lambda sandbox: sandbox.settings[fields[name]]
    return lambda sandbox: sandbox.created_at


def write_cursor(position: int) -> str:
    """What leads to the page that begins there; opaque to clients."""
    return base64.urlsafe_b64encode(str(position).encode()).decode()


def read_cursor(cursor: str | None) -> int:
    """Where a page begins; raises `ApiError` 400."""
    try:
        return int(base64.urlsafe_b64decode(cursor)) if cursor else 0
    except (ValueError, binascii.Error) as error:
        raise ApiError(400, "Invalid cursor") from error
