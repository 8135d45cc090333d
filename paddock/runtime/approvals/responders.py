"""Asking a callback of the user's for an approval."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.runtime.core.approval import ApprovalInterrupt, Decision
from paddock.runtime.core.calling import call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.core.approval import ApprovalCallback

__all__ = ["ask", "decision_of"]

BY = "approval_callback"

_log = get_logger(__name__)


async def ask(callback: ApprovalCallback, name: str, arguments: Mapping[str, Any]) -> Decision:
    """Return what `callback` says. A callback that fails has not approved.

    Raises `ApprovalInterrupt` if the callback does.
    """
    try:
        answer = await call(callback, name, copy.deepcopy(dict(arguments)))
    except ApprovalInterrupt:
        raise
    except Exception as error:
        _log.exception("the approval callback failed; the call is refused")
        told = f"the approval callback failed: {type(error).__name__}: {error}"
        return Decision(outcome="reject", feedback=told, by=BY)
    return decision_of(answer, by=BY)


def decision_of(answer: object, *, by: str | None = None) -> Decision:
    """Return `answer` if it is a `Decision`, else what it says as a bool: only True approves."""
    if isinstance(answer, Decision):
        return answer
    return Decision(outcome="approve" if answer is True else "reject", by=by)
