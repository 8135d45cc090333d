"""Asking a client's user to approve a call, by MCP's elicitation, in both eras of the protocol.

Until revision 2025-11-25 the server sends a request while the call waits. From 2026-07-28 on the
call ends with an `InputRequiredResult`, and the client calls again with the answer; what it was
asked travels with it, sealed by the server (see `RequestStateBoundary`).
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
from typing import TYPE_CHECKING, Any

from mcp import types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from typing import TypeAlias

    from mcp.server.context import ServerRequestContext

    from paddock.runtime.mcp.toolbox import Ask

    Context: TypeAlias = ServerRequestContext[Any, Any]

__all__ = ["STATE_LIFETIME", "Refused", "asker", "require_approval"]

ANSWER_TIMEOUT = 600.0
"""Seconds that a person may take to answer while the call waits: they may be elsewhere, and most
clients give a call up before."""

STATE_LIFETIME = 3600.0
"""Seconds for which an answer counts that comes with a call of its own."""

_KEY = "approval"
_FEEDBACK = {"type": "string", "title": "Comment", "description": "What the model is told."}
_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"feedback": _FEEDBACK}}


class Refused(Exception):
    """The call was not approved; the text says so to the model."""


async def require_approval(
    ctx: Context, params: types.CallToolRequestParams, question: str
) -> types.InputRequiredResult | None:
    """Return None when the client's user has approved the call, or what to answer instead.

    Raise `Refused` for a refusal, and at once for a client that cannot ask anybody.
    """
    if not _can_be_asked(ctx):
        raise Refused(
            f"Not run: a call of '{params.name}' with these arguments needs an approval, and this "
            "client cannot ask its user for one (it lacks MCP's elicitation)."
        )
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        _require(await _elicit(ctx, question))
        return None
    asked = _digest(params, question)
    answer = (params.input_responses or {}).get(_KEY)
    if params.request_state == asked and isinstance(answer, types.ElicitResult):
        _require(answer)
        return None
    form = types.ElicitRequestFormParams(message=question, requested_schema=_SCHEMA)
    return types.InputRequiredResult(
        input_requests={_KEY: types.ElicitRequest(params=form)}, request_state=asked
    )


def asker(ctx: Context, server: str) -> Ask | None:
    """Return what asks the client's user while a call runs; None for a client where that cannot
    be done."""
    if not _can_be_asked(ctx) or ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return None
    return functools.partial(_approves, ctx, server)


async def _approves(ctx: Context, server: str, what: str) -> bool:
    try:
        return (await _elicit(ctx, f"{server} asks {what}")).action == "accept"
    except Refused:
        return False


def _can_be_asked(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS or ctx.session.can_send_request


async def _elicit(ctx: Context, question: str) -> types.ElicitResult:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await ctx.session.elicit_form(question, _SCHEMA, ctx.request_id)
    except TimeoutError:
        raise Refused("Not run: nobody answered the request to approve this call.") from None
    except (MCPError, ValueError) as error:
        raise Refused(f"Not run: the client could not ask its user to approve: {error}") from error


def _require(answer: types.ElicitResult) -> None:
    """Raise `Refused` unless the user has approved."""
    if answer.action == "accept":
        return
    feedback = (answer.content or {}).get("feedback")
    told = f": {clean_text(feedback)}" if isinstance(feedback, str) and feedback.strip() else "."
    raise Refused(f"Not run: the user did not approve this call{told}")


def _digest(params: types.CallToolRequestParams, question: str) -> str:
    call = json.dumps([params.name, params.arguments or {}, question], sort_keys=True)
    return hashlib.sha256(call.encode()).hexdigest()
