"""What a planner writes as a plan: checked whole, and brought into the form that is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddock.errors import PlanError
from paddock.runtime.orchestration.schemas import problems_by

if TYPE_CHECKING:
    from paddock.runtime.orchestration.spec import PlanSpec

__all__ = ["MAX_BODY", "actions_and_context"]

MAX_BODY = 4 << 20
"""Bytes of a plan as JSON. A person has to approve it; what is bigger belongs into references."""

_OWN = frozenset({"kind", "references"})
"""Keys of an action that are not its payload."""


def actions_and_context(
    plan_id: str, spec: PlanSpec, body: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the actions of `body`, each with kind, payload and references, and its other keys.

    Raises `PlanError` for a body that does not fit the schema of `spec`, or has no actions.
    """
    body = _copy(plan_id, body)
    if problems := _problems(body, spec.schema):
        raise PlanError(plan_id, "invalid", f"invalid body: {'; '.join(problems)}")
    actions = body.pop("actions", None)
    if not isinstance(actions, list) or not actions:
        raise PlanError(plan_id, "invalid", "invalid body: $.actions has to have an action")
    return [_action(plan_id, each, at) for at, each in enumerate(actions)], body


def _copy(plan_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise PlanError(plan_id, "invalid", f"its body is an object, not {type(body).__name__}")
    try:
        text = json.dumps(dict(body), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PlanError(plan_id, "invalid", f"its body is not JSON: {error}") from error
    if len(text) > MAX_BODY:
        reason = f"its body has {len(text)} bytes, and {MAX_BODY} is the most: use references"
        raise PlanError(plan_id, "invalid", reason)
    copied: dict[str, Any] = json.loads(text)
    return copied


def _problems(body: dict[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """`references` of an action are the runtime's: a schema may know them, and need not."""
    problems = problems_by(body, schema)
    actions = body.get("actions")
    if not problems or not isinstance(actions, list):
        return problems
    bare = [_without_references(each) for each in actions]
    return [] if not problems_by(body | {"actions": bare}, schema) else problems


def _without_references(action: Any) -> Any:
    if not isinstance(action, dict):
        return action
    return {name: value for name, value in action.items() if name != "references"}


def _action(plan_id: str, action: Any, at: int) -> dict[str, Any]:
    place = f"$.actions[{at}]"
    if not isinstance(action, dict) or not isinstance(action.get("kind"), str):
        raise PlanError(plan_id, "invalid", f"invalid body: {place} has no text 'kind'")
    references = action.get("references") or []
    if not isinstance(references, list) or not all(map(_is_reference, references)):
        reason = f"invalid body: {place}.references is a list of objects with 'kind' and 'id'"
        raise PlanError(plan_id, "invalid", reason)
    payload = action.get("payload")
    if not isinstance(payload, dict) or not action.keys() <= _OWN | {"payload"}:
        payload = {name: value for name, value in action.items() if name not in _OWN}
    return {"kind": action["kind"], "payload": payload, "references": references}


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(n), str) for n in ("kind", "id"))
