"""Recognising that a model's context is full, in the words of any service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from paddock.errors import ContextOverflow

if TYPE_CHECKING:
    from paddock.errors import ModelError

__all__ = ["is_overflow"]

_STATUSES = frozenset({None, 400, 413, 422, 500})
"""What services send with it; llama.cpp and some gateways send 500."""

_TOO_LONG = re.compile(
    r"context[_ -]?(length|window|size|limit)|maximum context|context overflow"
    r"|model_max_prompt_tokens|max_model_len|larger than .{0,20}context"
    r"|(prompt|input|request|messages?|conversation)s? (is|are|was|were)? ?too (long|large)"
    r"|too (long|many) .{0,20}(input|tokens|prompt)"
    r"|(prompt|input|token count|tokens?) .{0,60}exceeds? .{0,60}(max|limit|context|allowed)"
    r"|maximum (prompt|input|number of tokens|sequence) ?(length|tokens|allowed)?"
    r"|reduce the length of|(inputs?|prompt)`? tokens? (limit|must be|\+)"
    r"|longer than the (maximum )?model",
    re.IGNORECASE,
)
"""Such as OpenAI's "maximum context length", Anthropic's "prompt is too long: 210000 tokens >
200000 maximum", Gemini's "input token count exceeds the maximum number of tokens allowed", vLLM's,
llama.cpp's "exceeds the available context size", Mistral's "too large for model with ... maximum
context length", Bedrock's "Input is too long for requested model"."""

_ABOUT_RATE = re.compile(r"per (second|minute|min|hour|day)|rate.?limit|\bTP[MD]\b", re.IGNORECASE)


def is_overflow(error: ModelError) -> bool:
    """Return whether a request failed because it has more tokens than the model takes."""
    if isinstance(error, ContextOverflow) or error.status == 413:
        return True
    text = str(error)
    return (
        error.status in _STATUSES
        and _TOO_LONG.search(text) is not None
        and _ABOUT_RATE.search(text) is None
    )
