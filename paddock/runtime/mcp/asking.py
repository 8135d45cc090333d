"""Asking a client's user to approve a call, by MCP's elicitation, in both eras of the protocol.

Until revision 2025-11-25 the server sends a request while the call waits. From 2026-07-28 on the
call ends with an `InputRequiredResult`, and the client calls again with the answer and a ticket,
sealed by the SDK (see `RequestStateBoundary`); the server knows what that was asked for.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from mcp import types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from paddock.runtime.core.pausing import ANSWER_TIMEOUT
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from typing import TypeAlias

    from mcp.server.context import ServerRequestContext

    from paddock.runtime.mcp.toolbox import Ask

    Context: TypeAlias = ServerRequestContext[Any, Any]

__all__ = [
    "STATE_LIFETIME",
    "Refused",
    "Tickets",
    "answer_in",
    "asker",
    "can_be_asked",
    "input_required",
    "is_stateless",
    "require_approval",
]

STATE_LIFETIME = 3600.0
"""Seconds for which an answer counts that comes with a call of its own."""

MAX_TICKETS = 1000
"""Questions of one server that wait for an answer: a hundred bytes each."""

_KEY = "approval"
_FEEDBACK = {"type": "string", "title": "Comment", "description": "Passed on to the model."}
_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"feedback": _FEEDBACK}}


class Refused(Exception):
    """The call was not approved; the text says so to the model."""


async def require_approval(
    ctx: Context, params: types.CallToolRequestParams, question: str, tickets: Tickets
) -> types.InputRequiredResult | None:
    """Return None when the client's user has approved the call, or what to answer instead.

    Raise `Refused` for a refusal, and at once for a client that cannot ask anybody.
    """
    if not can_be_asked(ctx):
        raise Refused(
            f"Not run: a call of '{params.name}' with these arguments needs an approval, and this "
            "client cannot ask its user for one (it lacks MCP's elicitation)."
        )
    if not is_stateless(ctx):
        _require(await _elicit(ctx, question))
        return None
    digest, answer = _digest(params, question), answer_in(params)
    if answer is not None and tickets.redeem(params.request_state, digest):
        _require(answer)
        return None
    return input_required(question, tickets.issue(digest))


class Tickets:
    """The questions that stateless clients have been given: an answer counts once, and for what was
    asked."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def issue(self, digest: str) -> str:
        """Return a state for the question of `digest`. Of many without an answer the oldest are
        forgotten: those are asked again."""
        ticket = uuid.uuid4().hex
        self._digests[ticket] = digest
        if len(self._digests) > MAX_TICKETS:
            del self._digests[next(iter(self._digests))]
        return ticket

    def redeem(self, ticket: str | None, digest: str) -> bool:
        """Whether `ticket` is for the question of `digest`. It counts once."""
        return self._digests.pop(ticket or "", None) == digest


def input_required(question: str, state: str) -> types.InputRequiredResult:
    """Return what a stateless client is to ask its user. It calls again, with `state`."""
    form = types.ElicitRequestFormParams(message=question, requested_schema=_SCHEMA)
    return types.InputRequiredResult(
        input_requests={_KEY: types.ElicitRequest(params=form)}, request_state=state
    )


def answer_in(params: types.CallToolRequestParams) -> types.ElicitResult | None:
    """Return the answer that a call brings, if it does."""
    answer = (params.input_responses or {}).get(_KEY)
    return answer if isinstance(answer, types.ElicitResult) else None


def asker(ctx: Context) -> Ask:
    """Return what asks the user of a client with a handshake while a call runs."""
    return functools.partial(_approves, ctx)


async def _approves(ctx: Context, question: str) -> bool:
    try:
        return (await _elicit(ctx, question)).action == "accept"
    except Refused:
        return False


def is_stateless(ctx: Context) -> bool:
    """Whether the client speaks a revision without handshake, where servers send no requests."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def can_be_asked(ctx: Context) -> bool:
    """Whether the client can ask its user."""
    capabilities = ctx.session.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    return is_stateless(ctx) or ctx.session.can_send_request


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
