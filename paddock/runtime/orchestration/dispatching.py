"""Calling the action dispatcher, and what it may return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from paddock.errors import PlanError
from paddock.runtime.core.calling import call
from paddock.runtime.orchestration.records import canonical
from paddock.runtime.orchestration.schemas import shown

__all__ = ["ActionDispatcher", "outcome_of"]

ActionDispatcher = Callable[[list[dict[str, Any]], dict[str, Any]], Awaitable[Any] | Any]
"""Given a plan's actions and a context, carry them out. May be async; one that is not runs in a
thread. Returns None, or a mapping with `entitiesAffected` and perhaps `summary` and `details`."""

_FIELDS = ("entitiesAffected", "summary", "details")


async def outcome_of(
    dispatcher: ActionDispatcher, actions: list[dict[str, Any]], context: dict[str, Any]
) -> dict[str, Any]:
    """Return what `dispatcher` says it has done. Raise `PlanError` if that cannot be read."""
    returned = await call(dispatcher, actions, context)
    if returned is None:
        return {"entitiesAffected": 0}
    if problem := _problem(returned):
        reason = f"the action dispatcher returned {shown(returned)}: {problem}"
        raise PlanError(context["plan_id"], "dispatcher", reason)
    found = {name: returned[name] for name in _FIELDS if returned.get(name) is not None}
    try:
        plain: dict[str, Any] = to_jsonable_python(found, by_alias=True)
        canonical(plain)
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"the action dispatcher returned details that are not JSON: {error}"
        raise PlanError(context["plan_id"], "dispatcher", reason) from error
    return plain


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
