"""Events and messages without secrets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.events import MessageAdded

if TYPE_CHECKING:
    from paddock.redaction import Redactor
    from paddock.runtime.core.events import Event
    from paddock.runtime.core.model import Message

__all__ = ["redacted", "redacted_arguments", "redacted_message"]

_IDENTITIES = frozenset(
    {
        "approval_id",
        "call_id",
        "tool_name",
        "session_id",
        "sandbox_id",
        "run_id",
        "task_id",
        "digest",
        "outcome",
        "policy_digest",
    }
)
"""Fields of events that are compared and looked up."""

_STRUCTURE = frozenset({"role", "tool_call_id", "name", "type", "id"})
"""Keys of a message that services check and runs look up."""


def redacted(event: Event, redactor: Redactor) -> Event:
    """`event` with texts and mappings that hold no secrets.

    Ids and names of tools stay: they tie events to each other, and a short secret may look
    like a part of one.
    """
    if not redactor:
        return event
    fields = {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}
    told: dict[str, Any] = {
        name: redactor.value(value)
        for name, value in fields.items()
        if isinstance(value, str | Mapping) and name not in _IDENTITIES
    }
    if isinstance(event, MessageAdded):
        told["message"] = redacted_message(event.message, redactor)
    return dataclasses.replace(event, **told)


def redacted_message(message: Message, redactor: Redactor) -> Message:
    """`message` without secrets in what it says; its keys, role and ids stay."""
    return {key: _redacted_part(key, value, redactor) for key, value in message.items()}


def _redacted_part(key: str, value: Any, redactor: Redactor) -> Any:
    if key in _STRUCTURE:
        return value
    if key == "tool_calls" and isinstance(value, list):
        return [_redacted_call(call, redactor) for call in value]
    if key == "content" and isinstance(value, list):
        return [part if _is_image(part) else redactor.value(part) for part in value]
    return redactor.value(value)


def _is_image(part: object) -> bool:
    """Return whether `part` is image data, which a redactor could only break."""
    return isinstance(part, dict) and part.get("type") == "image_url"


def _redacted_call(call: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    function = call["function"]
    told = redacted_arguments(function["arguments"], redactor)
    return {**call, "function": {**function, "arguments": told}}


def redacted_arguments(arguments: str, redactor: Redactor) -> str:
    """Arguments stay JSON: a secret may begin in the middle of an escape, or be a number."""
    told = redactor.text(arguments)
    if told is arguments:
        return arguments
    with contextlib.suppress(
        ValueError, RecursionError
    ):  # the model gets an error that it is not JSON
        told = json.dumps(redactor.value(json.loads(arguments)))
    return told
