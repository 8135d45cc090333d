"""Asking whether a tool call may run. Knows no tool and no terminal."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ApprovalCallback", "ApprovalInterrupt", "Decision", "ask", "call_digest"]

ApprovalCallback = Callable[[str, dict[str, Any]], Awaitable[bool] | bool]
"""Given a tool's name and a call's arguments; True lets it run. May be async."""

_log = logging.getLogger(__name__)


class ApprovalInterrupt(Exception):
    """Raised by an approval callback that cannot answer now: the run ends as interrupted.

    The call stays open, and nothing of its turn has run.
    """


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


def call_digest(name: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 of a call: an approval is for these exact arguments and no others."""
    call = [name, arguments]
    text = json.dumps(call, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
