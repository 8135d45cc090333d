"""What a model thought before it called tools, for the service that gets it back.

Chat format has no place for it, and the service wants it back, unchanged and in its place, for
as long as its calls are open. It is kept with the answer, under "opaque".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.runtime.models._content import text_of
from paddock.runtime.models._messages import call_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.core.model import Message
    from paddock.runtime.models._messages import Block

__all__ = ["are_whole", "kept_thoughts", "with_thoughts"]

_THINKING = frozenset({"thinking", "redacted_thinking"})


def kept_thoughts(blocks: list[Block], model: str) -> Block:
    """Return what is kept of `blocks`, which an answer of `model` was made of.

    Nothing, unless the model thought and then called tools.
    """
    kinds = {block["type"] for block in blocks}
    if not kinds & _THINKING or "tool_use" not in kinds:
        return {}
    return {"model": model, "blocks": blocks}


def with_thoughts(
    message: Message, blocks: list[Block], *, service: str, model: str
) -> list[Block]:
    """Return `blocks`, which stand for an answer of the history, with its thoughts in place.

    They stay as they are for an answer without thoughts, of another service or model, or whose
    text or calls are no longer what they were.
    """
    calls = {block["id"]: block for block in blocks if block["type"] == "tool_use"}
    kept = _kept(message, service, model)
    return [calls.get(block.get("id"), block) for block in kept if _says(block)] or blocks


def are_whole(messages: Sequence[Message], *, service: str, model: str) -> bool:
    """Whether the thinking that the turn at the end of `messages` began with is here.

    A turn begins with the first answer after the user's last message. It is also whole
    when the model has not answered yet.
    """
    said = [number for number, each in enumerate(messages) if each["role"] == "user"]
    begun = messages[said[-1] :] if said else messages
    first = next((each for each in begun if each["role"] == "assistant"), None)
    return first is None or bool(_kept(first, service, model))


def _kept(message: Message, service: str, model: str) -> list[Block]:
    """The blocks of this answer, if they are here and it still says and calls the same."""
    opaque = message.get("opaque") or {}
    thoughts = opaque.get("message") or {}
    if opaque.get("service") != service or thoughts.get("model") != model:
        return []
    blocks: list[Block] = thoughts.get("blocks") or []
    ids = [call_id(call["id"]) for call in message.get("tool_calls") or ()]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    called = [block["id"] for block in blocks if block["type"] == "tool_use"]
    return blocks if (text, called) == (text_of(message.get("content")), ids) else []


def _says(block: Block) -> bool:
    """The service refuses blank text, also where it sent it."""
    return block["type"] != "text" or bool(block["text"].strip())
