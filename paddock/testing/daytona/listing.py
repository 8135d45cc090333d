"""Which sandboxes a list holds, in which order, on which page. Knows nothing of HTTP."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from paddock.testing.daytona.envelope import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import MultiMapping

    from paddock.testing.daytona.index import Listed

__all__ = ["matches", "read_cursor", "sort_key", "write_cursor"]


def matches(sandbox: Listed, query: MultiMapping[str]) -> bool:
    """Whether it is in the list that `query` asks for; id and name match by their beginning."""
    try:
        labels: dict[str, str] = json.loads(query.get("labels", "{}"))
    except ValueError as error:
        raise ApiError(400, "Invalid labels JSON format") from error
    among = {"states": sandbox.state, "snapshots": sandbox.settings.get("snapshot")}
    ranges = {"Cpu": "cpu", "MemoryGiB": "memory", "DiskGiB": "disk"}
    return (
        labels.items() <= sandbox.labels.items()
        and sandbox.id.startswith(query.get("id", ""))
        and sandbox.name.startswith(query.get("name", ""))
        and all(value in query.getall(name, [value]) for name, value in among.items())
        and sandbox.settings["target"] in query.getall("regionIds", [sandbox.settings["target"]])
        and all(
            float(query.get(f"min{name}", "0"))
            <= sandbox.settings[field]
            <= float(query.get(f"max{name}", "inf"))
            for name, field in ranges.items()
        )
        and query.get("isPublic", str(sandbox.settings["public"])).lower()
        == str(sandbox.settings["public"]).lower()
    )


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
