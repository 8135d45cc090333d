"""An answer put together from the events of OpenAI's Responses API. Does no I/O.

The items that the model's answer is made of are kept whole, its reasoning among them, which
goes back with the conversation. What is not whole is never given out as whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.runtime.core.model import ModelResponse, ToolCall, Usage
from paddock.runtime.models._arguments import is_whole, read_arguments
from paddock.runtime.models._building import Builder, new_call_id
from paddock.runtime.models._counted import details, tokens
from paddock.runtime.models._failure import WITHOUT_REASON, BrokenStream, failure_in_body
from paddock.runtime.models._items import is_refusal, said

if TYPE_CHECKING:
    from paddock.runtime.models._items import Item

__all__ = ["ResponseBuilder"]

_TEXTS = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FINISH_REASONS = {"max_output_tokens": "length"}
_OUTPUT = ("message", "function_call", "reasoning")
"""Kinds of items that are kept: others are of tools that only the service has."""


class ResponseBuilder(Builder):
    """Takes the events of a response. Reasoning does not begin the answer."""

    expected = "an event of a response"

    def __init__(self) -> None:
        super().__init__()
        self._given = 0  # characters of text
        self._items: dict[int, Item] = {}
        self._ended: dict[str, Any] | None = None

    @property
    def counted(self) -> Usage:
        # It counts at the end alone.
        return _usage((self._ended or {}).get("usage") or {})

    def response(self) -> ModelResponse:
        if self._ended is None:
            raise BrokenStream("the stream ended before the answer was finished")
        items = self._kept()
        cut = details(self._ended.get("incomplete_details")).get("reason")
        if self._ended.get("status") == "incomplete":
            cut = cut or "max_output_tokens"
        calls = [_call(item, cut=cut is not None) for item in items if _is_call(item)]
        reason = _FINISH_REASONS.get(cut, cut) if cut else "tool_calls" if calls else "stop"
        if not calls and is_refusal(items):
            reason = "refusal"
        back = [item for item in items if not _is_lost(item)]
        return ModelResponse(
            text=said(items),
            tool_calls=tuple(calls),
            usage=self.counted,
            finish_reason=reason,
            opaque={} if cut or not _reasoned(back) else {"items": back},
        )

    def _add(self, event: dict[str, Any]) -> str:
        kind = event.get("type")
        if kind == "error" or event.get("error"):
            raise failure_in_body(event.get("error") or event)
        if kind in _TEXTS:
            self.begun = True
            self._given += len(event["delta"])
            return str(event["delta"])
        if kind in _THOUGHTS:
            self._think(event["delta"])
        elif kind == "response.function_call_arguments.delta":
            self.begun = True
        elif kind == "response.output_item.done":
            self._items[event["output_index"]] = event["item"]
        elif kind in _ENDS:
            return self._end(event["response"])
        elif event.get("object") == "response":  # in one piece
            return self._end(event)
        return ""

    def _end(self, response: dict[str, Any]) -> str:
        """Take the whole response; return the text of it that did not come before."""
        if error := response.get("error"):
            raise failure_in_body(error)
        if response.get("status") in ("failed", "cancelled"):
            raise failure_in_body({"message": WITHOUT_REASON, "code": 502})
        self.done = True
        self._ended = response
        return said(self._kept())[self._given :]

    def _kept(self) -> list[Item]:
        """The answer's items; some services leave them out of the last event."""
        assert self._ended is not None, "only at the end"
        items = self._ended.get("output") or [item for _, item in sorted(self._items.items())]
        return [item for item in items if item["type"] in _OUTPUT]


def _is_call(item: Item) -> bool:
    return bool(item["type"] == "function_call")


def _reasoned(items: list[Item]) -> bool:
    return any(item["type"] == "reasoning" for item in items)


def _is_lost(item: Item) -> bool:
    """Whether `item` is reasoning that cannot go back: the service kept it for itself."""
    return item["type"] == "reasoning" and not item.get("encrypted_content")


def _call(item: Item, *, cut: bool) -> ToolCall:
    text = item.get("arguments") or ""
    arguments = text if cut and not is_whole(text) else read_arguments([text])[0]
    return ToolCall(id=item.get("call_id") or new_call_id(), name=item["name"], arguments=arguments)


def _usage(usage: dict[str, Any]) -> Usage:
    read = details(usage.get("input_tokens_details"))
    written = details(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=tokens(usage.get("input_tokens")),
        output_tokens=tokens(usage.get("output_tokens")),
        cached_tokens=tokens(read.get("cached_tokens")),
        cache_write_tokens=tokens(read.get("cache_write_tokens")),
        reasoning_tokens=tokens(written.get("reasoning_tokens")),
    )
