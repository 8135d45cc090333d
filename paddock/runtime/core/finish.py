"""What the end of an answer means for a run. Does no I/O.

Services say it in many words: ``length``, ``MAX_TOKENS``, ``function_call_filter: ...``. No
answer that is empty, half, filtered or failed is the answer to a prompt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.runtime.core.model import ModelResponse

__all__ = ["is_cut", "unusable", "was_filtered"]

_CUT = frozenset(
    {
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "model_length",
        "model_context_window_exceeded",
        "pause_turn",
    }
)
_FILTERED = frozenset(
    {
        "content_filter",
        "content_filtered",
        "refusal",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "image_safety",
        "language",
        "sensitive",
        "guardrail_intervened",
    }
)
_FAILED = frozenset(
    {
        "error",
        "network_error",
        "insufficient_system_resource",
        "abort",
        "aborted",
        "malformed_function_call",
        "malformed_response",
        "unexpected_tool_call",
        "other",
    }
)
_CALLS = frozenset({"tool_calls", "tool_use", "function_call"})


def is_cut(response: ModelResponse) -> bool:
    """Whether the answer met the limit of its length."""
    return bool(_words(response.finish_reason) & _CUT)


def was_filtered(finish_reason: str) -> bool:
    """Whether the service, or the model, refused to answer."""
    return bool(_words(finish_reason) & _FILTERED)


def unusable(response: ModelResponse) -> str | None:
    """Return why the answer has nothing to act on, or None if it has.

    The same request may get a better one.
    """
    words, said = _words(response.finish_reason), bool(response.text.strip())
    if words & _FAILED:
        return f"the model's answer failed ({response.finish_reason})"
    if response.tool_calls:
        return None
    if words & _CALLS:
        return f"the model's answer lacks its tool call ({response.finish_reason})"
    if said:
        return None
    what = "was nothing but reasoning" if _reasoned(response) else "was empty"
    return f"the model's answer {what} ({response.finish_reason})"


def _reasoned(response: ModelResponse) -> bool:
    return bool(response.usage.reasoning_tokens or response.opaque)


def _words(finish_reason: str) -> set[str]:
    """The finish reason, and its parts where a gateway put another one's before it."""
    reason = finish_reason.strip().lower()
    return {reason, *re.split(r"[:/]\s*", reason)}
