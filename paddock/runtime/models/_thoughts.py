"""What a model thought before it called tools, kept until it is told what came of the calls.

Chat format has no place for it, and the service wants it back, unchanged and in its place, for
as long as the calls it led to go on. So it is kept here, beside the history: in memory, for one
client and one model, and for a bounded number of answers. Knows nothing of requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.runtime.models._content import text_of
from paddock.runtime.models._messages import call_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.core.model import Message, ModelResponse
    from paddock.runtime.models._messages import Block

__all__ = ["Thoughts"]

MAX_ANSWERS = 512
"""Answers whose thinking is kept: more than a history holds before it is compacted."""

_THINKING = frozenset({"thinking", "redacted_thinking"})


class Thoughts:
    """The blocks of answers that thought and then called tools, by the id of their first call."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Block]] = {}

    def keep(self, response: ModelResponse, blocks: list[Block]) -> None:
        """Keep `blocks`, which `response` was made of, if they are of use again."""
        thought = any(block["type"] in _THINKING for block in blocks)
        if not thought or response.finish_reason != "tool_calls" or not response.tool_calls:
            return
        self._answers[response.tool_calls[0].id] = blocks
        if len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def restore(self, message: Message, blocks: list[Block]) -> list[Block]:
        """`blocks`, which stand for an answer of the history, with what was thought in place.

        They stay as they are for an answer that did not think, or is not known here, or whose
        text or calls are no longer what they were.
        """
        calls = {block["id"]: block for block in blocks if block["type"] == "tool_use"}
        kept = self._kept(message)
        return [calls.get(block.get("id"), block) for block in kept if _says(block)] or blocks

    def are_whole(self, messages: Sequence[Message]) -> bool:
        """Whether the thinking that the turn at the end of `messages` began with is here.

        A turn begins with the first answer after the user's last message. It is also whole
        when the model has not answered yet.
        """
        said = [number for number, each in enumerate(messages) if each["role"] == "user"]
        begun = messages[said[-1] :] if said else messages
        first = next((each for each in begun if each["role"] == "assistant"), None)
        return first is None or bool(self._kept(first))

    def _kept(self, message: Message) -> list[Block]:
        """The blocks of this answer, if they are here and it still says and calls the same."""
        ids = [call_id(call["id"]) for call in message.get("tool_calls") or ()]
        kept = self._answers.get(ids[0], []) if ids else []
        text = "".join(block["text"] for block in kept if block["type"] == "text")
        called = [block["id"] for block in kept if block["type"] == "tool_use"]
        return kept if (text, called) == (text_of(message.get("content")), ids) else []


def _says(block: Block) -> bool:
    """The service refuses blank text, also where it sent it."""
    return block["type"] != "text" or bool(block["text"].strip())
