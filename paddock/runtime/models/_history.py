"""A conversation made fit for the service that is asked, once, before it is sent. Does no I/O.

A session may change between services, and a history may come from elsewhere. What every service
takes is left as it is. What some refuse is learnt from their refusals: see `quirk_in`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from paddock.runtime.models._content import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from paddock.runtime.core.model import Message

__all__ = ["SHORT_IDS", "STRICT_ROLES", "quirk_in", "repaired"]

MAX_ID = 40
"""Characters of a call's id: what OpenAI takes, the least of all services but Mistral's."""

SHORT_IDS = "short ids"
"""Ids of calls are nine letters or digits, as Mistral's models want."""

STRICT_ROLES = "strict roles"
"""Users and the assistant take turns, and the system speaks only first, as many templates of
chats want."""

NO_RESULT = "No result: it is not known what came of this call."
CONTINUED = "I continue."
"""Said between a tool's result and a user, to templates that want an answer there."""

_WANTS_SHORT_IDS = re.compile(r"a-z, A-Z, 0-9, with a length of 9|length of 9\b", re.IGNORECASE)
_WANTS_STRICT_ROLES = re.compile(
    r"roles? must alternate|unexpected role|must alternate between|alternating roles"
    r"|system (message|role).{0,40}(first|beginning|start|not supported)"
    r"|only (user|assistant|user and assistant).{0,30}roles?"
    r"|expected last role|after role|consecutive (user|assistant)",
    re.IGNORECASE,
)


def quirk_in(refusal: str) -> str | None:
    """Return which quirk of a service `refusal`, an error's text, is about; None if about none."""
    if _WANTS_SHORT_IDS.search(refusal):
        return SHORT_IDS
    return STRICT_ROLES if _WANTS_STRICT_ROLES.search(refusal) else None


def repaired(messages: Sequence[Message], quirks: AbstractSet[str] = frozenset()) -> list[Message]:
    """Return `messages` in which every call has one result and an id that the service takes.

    Empty answers are left out, and so are results without a call. The
    messages given stay as they are.
    """
    told: list[Message] = []
    waiting: dict[str, None] = {}  # ids of calls without a result, in their order
    for message in messages:
        role = message["role"]
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                continue
            del waiting[message["tool_call_id"]]
        else:
            told += _closed(waiting)
            waiting = {call["id"]: None for call in message.get("tool_calls") or ()}
            if role == "assistant" and not message.get("content") and not waiting:
                continue
        told.append(message)
    told += _closed(waiting)
    told = [_with_ids(message, short=SHORT_IDS in quirks) for message in told]
    return _alternating(told) if STRICT_ROLES in quirks else told


def _closed(waiting: Iterable[str]) -> list[Message]:
    return [{"role": "tool", "tool_call_id": call_id, "content": NO_RESULT} for call_id in waiting]


def _with_ids(message: Message, *, short: bool) -> Message:
    if "tool_call_id" in message:
        call_id = message["tool_call_id"]
        fit = _fit_id(call_id, short=short)
        return message if fit == call_id else {**message, "tool_call_id": fit}
    calls = message.get("tool_calls")
    if not calls:
        return message
    fit_ids = [_fit_id(call["id"], short=short) for call in calls]
    if fit_ids == [call["id"] for call in calls]:
        return message
    fit_calls = [{**call, "id": fit} for call, fit in zip(calls, fit_ids, strict=True)]
    return {**message, "tool_calls": fit_calls}


def _fit_id(call_id: str, *, short: bool) -> str:
    """`call_id`, or a digest of it: the same for the call and its result, in each request."""
    if short:
        fits = len(call_id) == 9 and call_id.isascii() and call_id.isalnum()
        return call_id if fits else _digest(call_id)[:9]
    return call_id if len(call_id) <= MAX_ID else f"call_{_digest(call_id)[:24]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _alternating(messages: Sequence[Message]) -> list[Message]:
    told: list[Message] = []
    for given in messages:
        message = given
        if message["role"] in SYSTEM and told and told[-1]["role"] not in SYSTEM:
            message = {**message, "role": "user"}
        last = told[-1] if told else None
        if last is None:
            told.append(message)
        elif _may_join(last, message):
            told[-1] = {**last, "content": _joined(last.get("content"), message.get("content"))}
        elif last["role"] == "tool" and message["role"] == "user":
            told += [{"role": "assistant", "content": CONTINUED}, message]
        else:
            told.append(message)
    return told


def _may_join(last: Message, message: Message) -> bool:
    same = last["role"] == message["role"] and message["role"] != "tool"
    return same and not last.get("tool_calls") and not message.get("tool_calls")


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []
