"""Calling the action dispatcher, and what it may return."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from paddock._logs import get_logger
from paddock.errors import PlanError
from paddock.runtime.core.calling import call
from paddock.runtime.orchestration.values import as_json, shown, told

__all__ = ["ActionDispatcher", "outcome_of"]

ActionDispatcher = Callable[[list[dict[str, Any]], dict[str, Any]], Awaitable[Any] | Any]
"""Given a plan's actions and a context, carry them out. May be async; one that is not runs in a
thread. Returns None, or a mapping with `entitiesAffected` and perhaps `summary` and `details`."""

_log = get_logger(__name__)

_FIELDS = ("entitiesAffected", "summary", "details")


async def outcome_of(
    dispatcher: ActionDispatcher, actions: list[dict[str, Any]], context: dict[str, Any]
) -> dict[str, Any]:
    """Return what `dispatcher` says it has done. Raise `PlanError` if it fails, or if that cannot
    be read."""
    try:
        returned = await call(dispatcher, actions, context)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        _log.warning("the action dispatcher failed on plan %r", context["plan_id"], exc_info=error)
        reason = f"the action dispatcher failed: {told(error)}"
        raise PlanError(context["plan_id"], "dispatcher", reason) from error
    if returned is None:
        return {"entitiesAffected": 0}
    if problem := _problem(returned):
        reason = f"the action dispatcher returned {shown(returned)}: {problem}"
        raise PlanError(context["plan_id"], "dispatcher", reason)
    found = {name: returned[name] for name in _FIELDS if returned.get(name) is not None}
    try:
        plain, _ = as_json(found)
    except TypeError as error:
        reason = f"the action dispatcher returned details that are not JSON: {error}"
        raise PlanError(context["plan_id"], "dispatcher", reason) from error
    return dict(plain)


def _is_cancelled() -> bool:
    """Return whether this task was cancelled, and the dispatcher did not cancel itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _problem(returned: object) -> str | None:
    if not isinstance(returned, Mapping):
        return "it is None or a mapping with an 'entitiesAffected'"
    affected = returned.get("entitiesAffected")
    if isinstance(affected, bool) or not isinstance(affected, int) or affected < 0:
        return "its 'entitiesAffected' is not an integer of at least 0"
    if not isinstance(returned.get("summary"), str | None):
        return "its 'summary' is not text"
    if unknown := [key for key in returned if key not in _FIELDS]:
        return f"{', '.join(map(repr, unknown))} is not one of {', '.join(_FIELDS)}"
    return None
