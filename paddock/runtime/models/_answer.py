"""A chat completion put together from the chunks of its stream. Does no I/O.

Services differ: whole tool calls at once, no index or always the same one, ids that come
late or are repeated, usage once or in every chunk, null for nothing. All of that is one
answer here. What is not whole is never given out.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from paddock.errors import ModelError
from paddock.runtime.core.model import ModelResponse, ToolCall, Usage
from paddock.runtime.models._content import text_of

__all__ = ["AnswerBuilder", "BrokenStream", "WholeAnswer"]

_CUT_OFF = frozenset({"length", "content_filter"})  # reasons after which a call may be partial

MAX_BODY = 16 * 1024 * 1024
"""Bytes of an answer in one piece, as of one event of a stream."""


class BrokenStream(Exception):
    """The stream ended too early, or is not a stream of chat completion chunks."""


@dataclass(slots=True)
class _Call:
    """A tool call as far as it has come. `index` is the service's number for it, if any."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: str = ""


class AnswerBuilder:
    """Takes the events of one stream in order; see `add` and `response`."""

    def __init__(self) -> None:
        self.done = False
        """Whether the service has said that nothing more comes."""
        self._texts: list[str] = []
        self._calls: list[_Call] = []
        self._usage = Usage()
        self._finish_reason: str | None = None

    def add(self, data: bytes) -> str:
        """Take one event; return the text in it.

        Raises `ModelError` for an error that the service reports, and `BrokenStream` for
        what is not a chunk.
        """
        if data == b"[DONE]":
            self.done = True
            return ""
        try:
            chunk = json.loads(data)
            if error := chunk.get("error"):
                raise _reported(error)
            return self._add_chunk(chunk)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            shown = data[:200].decode(errors="replace")
            raise BrokenStream(f"not a chat completion chunk: {shown}") from error

    def response(self) -> ModelResponse:
        """The whole answer. Raises `BrokenStream` when the service has not finished it."""
        if self._finish_reason is None:
            raise BrokenStream("the stream ended before the answer was finished")
        calls = self._calls
        if self._finish_reason in _CUT_OFF and calls and not _is_json(calls[-1].arguments):
            calls = calls[:-1]
        if not all(call.name for call in calls):
            raise BrokenStream("the stream has a tool call without a name")
        return ModelResponse(
            text="".join(self._texts),
            tool_calls=tuple(map(_tool_call, calls)),
            usage=self._usage,
            finish_reason=self._finish_reason,
        )

    def _add_chunk(self, chunk: dict[str, Any]) -> str:
        if usage := chunk.get("usage"):
            # Some services send a running total in every chunk: the last one counts.
            self._usage = _usage(usage)
        choices = chunk.get("choices")
        if not choices:
            return ""
        self._finish_reason = choices[0].get("finish_reason") or self._finish_reason
        delta = choices[0].get("delta") or choices[0].get("message")
        if not delta:
            return ""
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        text = text_of(delta.get("content")) or text_of(delta.get("refusal"))
        if text:
            self._texts.append(text)
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
        arguments = function.get("arguments") or ""
        call.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _find_call(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """The call that a delta goes on with; None when it begins one."""
        for call in reversed(self._calls):
            if call_id and call.id:
                # Two ids are two calls, whatever the index says.
                if call.id == call_id:
                    return call
            elif index is not None:
                if call.index == index:
                    return call
            else:
                # With nothing to tell calls apart by, a name begins the next one.
                return None if name and call.name else call
        return None


class WholeAnswer:
    """A completion that comes in one piece, not as a stream: `add` takes its bytes as they come."""

    done = False

    def __init__(self) -> None:
        self._body = bytearray()

    def add(self, data: bytes) -> str:
        """Take some bytes; there is no text before the end. Raises `BrokenStream`."""
        self._body += data
        if len(self._body) > MAX_BODY:
            raise BrokenStream(f"the answer has more than {MAX_BODY} bytes")
        return ""

    def response(self) -> ModelResponse:
        """See `AnswerBuilder.response`."""
        builder = AnswerBuilder()
        builder.add(bytes(self._body))
        return builder.response()


def _tool_call(call: _Call) -> ToolCall:
    # A call without arguments comes as no text at all from some services.
    return ToolCall(
        id=call.id or f"call_{uuid.uuid4().hex}", name=call.name, arguments=call.arguments or "{}"
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _usage(usage: dict[str, Any]) -> Usage:
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=prompt.get("cached_tokens") or 0,
        reasoning_tokens=completion.get("reasoning_tokens") or 0,
    )


def _reported(error: object) -> ModelError:
    content = error if isinstance(error, dict) else {"message": error}
    code = content.get("code")
    return ModelError(
        f"API error in the stream: {content.get('message') or content}",
        status=code if isinstance(code, int) else None,
    )
