"""What the loop asks of a model, and what it gets back. Knows no provider.

Messages are in OpenAI chat format, which every provider's adapter speaks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from paddock.runtime.core.content import ImagePart

__all__ = [
    "Message",
    "ModelClient",
    "ModelEvent",
    "ModelRequest",
    "ModelResponse",
    "ModelRetry",
    "Price",
    "ReasoningDelta",
    "TextDelta",
    "ToolCall",
    "Usage",
    "UsageSoFar",
    "assistant_message",
    "tool_message",
]

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and cost. `cached_tokens`, which were read from the provider's cache, and
    `cache_write_tokens`, which were put there, are part of `input_tokens`, `reasoning_tokens`
    of `output_tokens`; `cost_usd` is 0.0 where the price is not known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for a million tokens.

    Input from the provider's cache, and what is put there, cost as other input where they have
    no price of their own.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None

    def cost(self, usage: Usage) -> float:
        """Return the price of `usage` in US dollars."""
        read = min(usage.cached_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - read)
        total = (
            (usage.input_tokens - read - written) * self.input
            + read * (self.input if self.cached_input is None else self.cached_input)
            + written * (self.input if self.cache_write is None else self.cache_write)
            + usage.output_tokens * self.output
        )
        return total / 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model asked for. `arguments` is its JSON text as sent, valid or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One request. `tools` are in OpenAI function format.

    `options` are sampling parameters and the like, by their names in chat completions;
    `extra_body` and `extra_headers` are sent as they are. `timeout` is in seconds until the
    answer begins, `idle_timeout` without a byte after that; None leaves it to the client.
    `price` is what the user says that the model costs; it is not sent.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    response_format: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    idle_timeout: float | None = None
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """A piece of what the model thinks, where its service shows that. No part of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResponse:
    """The whole answer, after its last piece. Tool calls appear only here.

    They are complete, but for the last one if `finish_reason` is ``length``. `is_priced`:
    somebody knows what it cost, so that a cost of 0.0 means that it was free. `opaque` is what
    the service wants back with the conversation; it is kept with the answer's message.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    finish_reason: str = "stop"
    is_priced: bool = False
    opaque: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRetry:
    """A request failed for `reason`, and is sent again after `wait` seconds.

    It is retry number `attempt` of at most `limit`. `status` is HTTP's, None without an answer.
    """

    reason: str
    wait: float
    attempt: int
    limit: int
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}, retrying in {self.wait:.3g} s ({self.attempt} of {self.limit})"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSoFar:
    """What the service has counted of an answer that is not whole yet. The last one counts."""

    usage: Usage


ModelEvent = UsageSoFar | ReasoningDelta | TextDelta | ModelRetry | ModelResponse


class ModelClient(Protocol):
    """A connection to a model's service. May serve many requests at once."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield `TextDelta`s, then exactly one `ModelResponse`, and end. A `UsageSoFar` and
        `ReasoningDelta`s may come between them.

        Retries by itself what is safe to retry, and yields a `ModelRetry` before it waits: a
        stream that broke after its first `TextDelta` was yielded is not begun again. Raises
        `ModelError` when it gives up.
        Closing or cancelling the iterator closes the HTTP stream.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        ...


def tool_message(call_id: str, content: str, images: Sequence[ImagePart] = ()) -> Message:
    """Return a tool's result; with `images` its content is a list of parts."""
    parts = [{"type": "text", "text": content}, *(image.to_part() for image in images)]
    return {"role": "tool", "tool_call_id": call_id, "content": parts if images else content}


def assistant_message(
    text: str, calls: tuple[ToolCall, ...] = (), opaque: Mapping[str, Any] | None = None
) -> Message:
    """Return an answer in chat format; without text its content is null if there are calls.

    `opaque` is that of `ModelResponse`. It stands under a key of its own, which chat format
    does not have: clients take it out, and put what is in it where the service wants it.
    """
    kept = {"opaque": dict(opaque)} if opaque else {}
    if not calls:
        return {"role": "assistant", "content": text, **kept}
    listed = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
    return {"role": "assistant", "content": text or None, "tool_calls": listed, **kept}
