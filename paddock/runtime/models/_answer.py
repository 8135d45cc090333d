"""A chat completion put together from the chunks of its stream. Does no I/O.

Services differ: whole tool calls at once, no index or always the same one, ids that come
late or are repeated, usage once or in every chunk, null for nothing, keep-alives that are no
JSON. All of that is one answer here. What is not whole is never given out as whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from paddock.runtime.core.model import ModelResponse, ToolCall, Usage
from paddock.runtime.models._arguments import is_whole, read_arguments
from paddock.runtime.models._building import Builder, new_call_id
from paddock.runtime.models._content import text_of
from paddock.runtime.models._counted import amount, details, tokens
from paddock.runtime.models._failure import WITHOUT_REASON, BrokenStream, failure_in_body
from paddock.runtime.models._opaque import gather

__all__ = ["AnswerBuilder"]

_KNOWN = frozenset({"role", "content", "tool_calls", "function_call", "refusal"})
_KNOWN_OF_CALL = frozenset({"index", "id", "type", "function"})
_KNOWN_OF_FUNCTION = frozenset({"name", "arguments"})


@dataclass(slots=True)
class _Call:
    """A tool call as far as it has come. `index` is the service's number for it, if any."""

    index: int | None
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    opaque: dict[str, Any] = field(default_factory=dict)


class AnswerBuilder(Builder):
    """Takes the chunks of chat completions."""

    expected = "a chat completion chunk"
    starts = b"{["

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []
        self._calls: list[_Call] = []
        self._usage: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._opaque: dict[str, Any] = {}
        self._refused = False

    @property
    def counted(self) -> Usage:
        return _usage(self._usage)

    def response(self) -> ModelResponse:
        if self._finish_reason is None:
            self._finish_reason = self._said_by_end()
        cut = self._finish_reason == "length"
        calls = [one for call in self._calls for one in _finished(call, cut=cut)]
        if not all(call.name for call, _ in calls):
            raise BrokenStream("the stream has a tool call without a name")
        return ModelResponse(
            text="".join(self._texts),
            tool_calls=tuple(call for call, _ in calls),
            usage=_usage(self._usage),
            finish_reason="refusal" if self._refused and not calls else self._finish_reason,
            is_priced=_cost(self._usage) is not None,
            opaque=_opaque(self._opaque, [kept for _, kept in calls]),
        )

    def _said_by_end(self) -> str:
        """How the answer ended, by a service that ends its stream without saying so."""
        whole = all(is_whole("".join(call.pieces)) for call in self._calls)
        if not self.done or not whole or not (self._texts or self._calls):
            raise BrokenStream("the stream ended before the answer was finished")
        return "tool_calls" if self._calls else "stop"

    def _add(self, event: Any) -> str:
        _raise_error(event)
        return self._add_chunk(event) if isinstance(event, dict) else ""

    def _add_chunk(self, chunk: dict[str, Any]) -> str:
        if usage := details(chunk.get("usage")):
            # Some services send a running total in every chunk: the last one counts.
            self._usage = dict(usage)
        choices = chunk.get("choices")
        if not choices:
            return ""
        choice = choices[0]
        if choice.get("error"):
            raise failure_in_body(choice["error"])
        reason = str(choice.get("finish_reason") or "")
        if reason == "error":
            raise failure_in_body({"message": WITHOUT_REASON, "code": 502})
        self._finish_reason = reason or self._finish_reason
        delta = choice.get("delta") or choice.get("message")
        return self._add_delta(delta) if delta else ""

    def _add_delta(self, delta: dict[str, Any]) -> str:
        self._think(delta.get("reasoning_content") or delta.get("reasoning"))
        gather(self._opaque, delta, known=_KNOWN)
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        if function := delta.get("function_call"):  # as it was before there were tools
            self._add_call({"index": 0, "function": function})
        refused = text_of(delta.get("refusal"))
        self._refused = self._refused or bool(refused.strip())
        text = text_of(delta.get("content")) or refused
        if text:
            self._texts.append(text)
        self.begun = self.begun or bool(text or self._calls or self._opaque)
        return text

    def _add_call(self, delta: dict[str, Any]) -> None:
        function = delta.get("function") or {}
        name, call_id = function.get("name") or "", delta.get("id") or ""
        call = self._find_call(delta.get("index"), call_id, name)
        if call is None:
            call = _Call(index=delta.get("index"))
            self._calls.append(call)
        call.id = call_id or call.id
        if name != call.name:
            call.name += name
        arguments = function.get("arguments")
        if arguments is not None:
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call.pieces.append(text)
        gather(call.opaque, delta, known=_KNOWN_OF_CALL)
        of_function: dict[str, Any] = call.opaque.get("function", {})
        gather(of_function, function, known=_KNOWN_OF_FUNCTION)
        if of_function:
            call.opaque["function"] = of_function

    def _find_call(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """The call that a delta continues; None if it begins one."""
        for call in reversed(self._calls):
            if call_id and call.id:
                # Two ids are two calls, whatever the index says.
                if call.id == call_id:
                    return None if _is_another(call, name) else call
            elif index is not None:
                if call.index == index:
                    return None if _is_another(call, name) else call
            else:
                # With nothing to tell calls apart by, a name begins the next one.
                return None if name and call.name else call
        return None


def _is_another(call: _Call, name: str) -> bool:
    """Whether `name` belongs to another call: that of this one is known, and so are arguments."""
    return bool(name and call.pieces and any(call.pieces) and call.name != name)


def _raise_error(told: Any) -> None:
    """Raise the error that a chunk or a body reports instead of an answer."""
    if isinstance(told, list):
        for each in told:
            _raise_error(each)
    elif isinstance(told, dict):
        if error := told.get("error"):
            beside = {key: told[key] for key in ("code", "status", "type") if key in told}
            raise failure_in_body(error if isinstance(error, dict) else {**beside, "error": error})
        if "choices" not in told and (told.get("object") == "error" or "detail" in told):
            raise failure_in_body(told)


def _finished(call: _Call, *, cut: bool) -> list[tuple[ToolCall, dict[str, Any]]]:
    """The calls that `call` is, each with what is kept of it.

    If the answer was `cut` at the output limit, arguments that are not whole stay so.
    """
    text = "".join(call.pieces)
    texts = [text] if cut and not is_whole(text) else read_arguments(call.pieces)
    return [
        (
            ToolCall(
                id=(call.id if not number else "") or new_call_id(), name=call.name, arguments=each
            ),
            call.opaque,
        )
        for number, each in enumerate(texts)
    ]


def _opaque(message: dict[str, Any], calls: list[dict[str, Any]]) -> dict[str, Any]:
    kept: dict[str, Any] = {"message": message} if message else {}
    return kept | ({"calls": calls} if any(calls) else {})


def _usage(usage: dict[str, Any]) -> Usage:
    prompt = details(usage.get("prompt_tokens_details"))
    completion = details(usage.get("completion_tokens_details"))
    cached = prompt.get("cached_tokens") or usage.get("prompt_cache_hit_tokens")  # DeepSeek's
    written = prompt.get("cache_write_tokens") or usage.get("cache_creation_input_tokens")
    return Usage(
        input_tokens=tokens(usage.get("prompt_tokens")),
        output_tokens=tokens(usage.get("completion_tokens")),
        cached_tokens=tokens(cached),
        cache_write_tokens=tokens(written),
        reasoning_tokens=tokens(completion.get("reasoning_tokens")),
        cost_usd=_cost(usage) or 0.0,
    )


def _cost(usage: dict[str, Any]) -> float | None:
    """US dollars, where the service says what it costs."""
    told = usage.get("cost")
    cost = amount(told.get("total_cost") if isinstance(told, dict) else told)  # Perplexity's
    if cost is not None and usage.get("is_byok"):  # OpenRouter's: its fee alone is `cost`
        cost += amount(details(usage.get("cost_details")).get("upstream_inference_cost")) or 0.0
    return cost
