"""Approvals as plain data that JSON can hold, and back."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from paddock.errors import SessionError
from paddock.runtime.core.approval import Approval, ApprovalRequest, Decision

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["approval_from", "approval_json", "approval_to", "read_approval"]


def approval_to(approval: Approval) -> dict[str, Any]:
    """Return `approval` as plain data."""
    request = asdict(approval.request)
    for name in ("asked_at", "expires_at"):
        request[name] = _text(request[name])
    return {
        "request": request,
        "decision": None if approval.decision is None else asdict(approval.decision),
        "decided_at": _text(approval.decided_at),
        "withdrawn": approval.withdrawn,
    }


def approval_from(data: Mapping[str, Any]) -> Approval:
    """Return the approval in what `approval_to` gave; raise `SessionError` for anything else."""
    try:
        request = dict(data["request"])
        request["asked_at"] = dt.datetime.fromisoformat(request["asked_at"])
        request["expires_at"] = _time(request["expires_at"])
        request["agent_path"] = tuple(request["agent_path"])
        decision = data["decision"]
        return Approval(
            request=ApprovalRequest(**request),
            decision=None if decision is None else Decision(**decision),
            decided_at=_time(data["decided_at"]),
            withdrawn=data["withdrawn"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SessionError(f"this is not an approval: {error!r}") from error


def approval_json(approval: Approval) -> str:
    """Return `approval` as JSON; arguments that JSON cannot hold become their representation."""
    return json.dumps(approval_to(approval), default=repr)


def read_approval(text: str | bytes) -> Approval:
    """Return the approval in what `approval_json` gave; raise `SessionError` for anything else."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SessionError(f"this is not an approval: it is not JSON: {error}") from error
    return approval_from(data)


def _text(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
