"""Who answers approvals by themselves: a callback of the user's."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.runtime.core.approval import ApprovalInterrupt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.core.approval import ApprovalCallback

__all__ = ["Decision", "ask"]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer, and a `note` when it was not simply given."""

    approved: bool
    note: str | None = None


async def ask(callback: ApprovalCallback, name: str, arguments: Mapping[str, Any]) -> Decision:
    """What `callback` says. A callback that fails has not approved.

    Raises `ApprovalInterrupt` if the callback does.
    """
    try:
        answer = callback(name, copy.deepcopy(dict(arguments)))
        if inspect.isawaitable(answer):
            answer = await answer
    except ApprovalInterrupt:
        raise
    except Exception as error:
        _log.exception("the approval callback failed; the call is refused")
        return Decision(approved=False, note=f"{type(error).__name__}: {error}")
    return Decision(approved=answer is True)
