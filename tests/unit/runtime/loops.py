"""What tests of the loop have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message


def echo(text: str = "") -> str:
    return f"echo: {text}"


def call(name: str, call_id: str | None = None, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments, "id": call_id}


def results(messages: Sequence[Message]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


def kinds(events: Sequence[AgentEvent]) -> list[str]:
    return [event.type for event in events]
