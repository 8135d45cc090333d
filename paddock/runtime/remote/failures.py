"""Errors on the wire: a text, and metadata with the details.

No traceback leaves the process; the server's log has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["RequestFailed", "bounded", "busy", "cancelled", "describe"]

MAX_TEXT = 4000
"""Characters of one text in the metadata of an error."""
MAX_ITEMS = 20
"""Entries of one list or mapping there."""
MAX_DEPTH = 4
"""Levels of it."""


class RequestFailed(Exception):
    """A request failed for a reason that is no defect: what the wire calls an `Error`."""

    def __init__(self, text: str, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.metadata = dict(metadata or {})


def describe(error: BaseException) -> tuple[str, dict[str, Any]]:
    """Return the text and the metadata of the message that reports `error`."""
    return str(error) or type(error).__name__, _metadata(error, MAX_DEPTH)


def _metadata(error: BaseException, depth: int) -> dict[str, Any]:
    name = "Error" if isinstance(error, RequestFailed) else type(error).__name__
    found: dict[str, Any] = {"error_name": name, "stack": f"{name}: {error}"[:MAX_TEXT]}
    cause = error.__cause__
    if cause is not None and depth > 1:
        found["cause"] = _metadata(cause, depth - 1)
    own = {key: value for key, value in vars(error).items() if not key.startswith("_")}
    metadata = own.pop("metadata", None)
    if isinstance(metadata, Mapping):
        found |= bounded(metadata)
    if own:
        found["error_details"] = bounded(own)
    return found


def bounded(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return `value` as JSON has it, cut to what an error may carry."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if value - value == 0 else str(value)  # JSON has no infinity
        case str():
            return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}..."
        case Mapping() if depth:
            items = list(value.items())[:MAX_ITEMS]
            return {str(key)[:MAX_TEXT]: bounded(item, depth - 1) for key, item in items}
        case list() | tuple() | set() | frozenset() if depth:
            return [bounded(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
        case Mapping() | list() | tuple() | set() | frozenset():
            return "..."
        case _:
            return bounded(_shown(value), depth)


def _shown(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose str() failed: {type(error).__name__}>"


def cancelled(code: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the text and the metadata of the end of a request that was cancelled."""
    return "Request cancelled", {} if code is None else {"code": code}


def busy(run_id: str) -> tuple[str, dict[str, Any]]:
    """Return those of the answer to a request that comes while `run_id` runs."""
    metadata = {"error_name": "Error", "code": "busy", "run_id": run_id}
    return "Received request while another is in flight!", metadata
