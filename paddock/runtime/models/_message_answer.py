"""An answer put together from the events of Anthropic's stream. Does no I/O.

Thinking is kept beside the answer, never in its text. What is not whole is never given out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.model import ModelResponse, ToolCall, Usage
from paddock.runtime.models._arguments import is_whole, read_arguments
from paddock.runtime.models._building import Builder
from paddock.runtime.models._content import text_of
from paddock.runtime.models._counted import details, tokens
from paddock.runtime.models._failure import BrokenStream, failure_in_body
from paddock.runtime.models._thoughts import kept_thoughts

if TYPE_CHECKING:
    from paddock.runtime.models._messages import Block

__all__ = ["MessageBuilder"]

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
"""Kinds of deltas, and the field that each is a piece of."""


class MessageBuilder(Builder):
    """Takes the events of a message of `model`."""

    expected = "an event of a message"

    def __init__(self, model: str = "") -> None:
        super().__init__()
        self._model = model
        self._begun: dict[int, Block] = {}
        self._pieces: dict[int, dict[str, list[str]]] = {}  # of the fields of each block
        self._counted: dict[str, Any] = {}
        self._usage = Usage()
        self._stop_reason: str | None = None
        self._refusal = ""

    def response(self) -> ModelResponse:
        if self._stop_reason is None:
            raise BrokenStream("the stream ended before the answer was finished")
        texts = [block["text"] for block in self._whole_blocks() if block["type"] == "text"]
        thoughts = kept_thoughts(self.blocks, self._model)
        return ModelResponse(
            text="".join(texts) + self._refusal,
            tool_calls=self._calls(),
            usage=self._usage,
            finish_reason=_FINISH_REASONS.get(self._stop_reason, self._stop_reason),
            opaque={"message": thoughts} if thoughts else {},
        )

    @property
    def counted(self) -> Usage:
        return self._usage

    @property
    def blocks(self) -> list[Block]:
        """What came, in order, to be sent again; of calls only the id."""
        return [
            {"type": "tool_use", "id": block["id"]} if block["type"] == "tool_use" else block
            for block in self._whole_blocks()
        ]

    def _add(self, event: dict[str, Any]) -> str:
        if "type" not in event or "error" in event:
            raise failure_in_body(event.get("error") or event)
        match event["type"]:
            case "message_start":
                self._count(event["message"].get("usage"))
            case "message":
                return self._add_whole(event)
            case "content_block_start":
                return self._begin(event["index"], event["content_block"])
            case "content_block_delta":
                return self._go_on(self._pieces[event["index"]], event["delta"])
            case "message_delta":
                return self._end(event)
            case "message_stop":
                self.done = True
            case _:  # a ping, the end of a block, and what is yet to be invented
                pass
        return ""

    def _add_whole(self, message: dict[str, Any]) -> str:
        """Take a message in one piece, of a service that does not stream."""
        self._count(message.get("usage"))
        texts = [self._begin(index, block) for index, block in enumerate(message["content"])]
        self.done = True
        return "".join(texts) + self._end({"delta": message})

    def _begin(self, index: int, block: Block) -> str:
        if block["type"] == "tool_use" and not (block["id"] and block["name"]):
            raise ValueError("a call without id or name")
        text = text_of([block]) if block["type"] == "text" else ""
        self._begun[index] = {"type": "text", "text": text} if block["type"] == "text" else block
        self._pieces[index] = {}
        self._think(block.get("thinking"))
        self.begun = True
        return text

    def _go_on(self, pieces: dict[str, list[str]], delta: dict[str, Any]) -> str:
        field = _DELTAS.get(delta["type"])
        if field is None:
            return ""
        piece = delta[field]
        if not isinstance(piece, str):
            raise TypeError(f"a piece of {field} that is no text")
        pieces.setdefault(field, []).append(piece)
        if field == "thinking":
            self._think(piece)
        return piece if field == "text" else ""

    def _whole_blocks(self) -> list[Block]:
        """The blocks, each with the pieces that came of it."""
        return [
            begun
            | {
                field: begun.get(field, "") + "".join(pieces)
                for field, pieces in self._pieces[index].items()
            }
            for index, begun in self._begun.items()
        ]

    def _end(self, event: dict[str, Any]) -> str:
        self._count(event.get("usage"))
        delta = event["delta"]
        self._stop_reason = delta.get("stop_reason") or self._stop_reason
        if self._stop_reason != "refusal" or self._refusal:
            return ""
        said = any(block.get("text") for block in self._whole_blocks())
        self._refusal = ("\n\n" if said else "") + _refusal(delta.get("stop_details") or {})
        return self._refusal

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Totals so far: the last value reported counts; a value not reported stays."""
        told = details(usage).items()
        self._counted.update({name: value for name, value in told if value is not None})
        self._usage = _usage(self._counted)

    def _calls(self) -> tuple[ToolCall, ...]:
        """The calls that are whole. Of an answer that was refused, none is to be acted on."""
        blocks = [block for block in self._whole_blocks() if block["type"] == "tool_use"]
        if self._stop_reason == "refusal":
            return ()
        return tuple(
            ToolCall(id=block["id"], name=block["name"], arguments=self._arguments(block))
            for block in blocks
        )

    def _arguments(self, block: Block) -> str:
        # Some services send the arguments whole with the beginning.
        given = block.get("input")
        text = str(block.get("partial_json") or (json.dumps(given) if given else ""))
        if self._stop_reason != "tool_use" and not is_whole(text):
            return text  # cut off in the middle
        texts = read_arguments([text])
        return texts[0] if len(texts) == 1 else text


def _usage(usage: dict[str, Any]) -> Usage:
    read = tokens(usage.get("cache_read_input_tokens"))
    written = tokens(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=tokens(usage.get("input_tokens")) + read + written,  # it counts them apart
        output_tokens=tokens(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=tokens(details(usage.get("output_tokens_details")).get("thinking_tokens")),
    )


def _refusal(why: dict[str, Any]) -> str:
    explanation = why.get("explanation")
    return explanation or "The service stopped the model's answer: it was refused."
