"""What Anthropic's service refuses with status 400, as far as a conversation can break it.

So what our client sends is held to the rules of the real service in every test. Knows the
request's body, and nothing of answers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["check"]

Block = dict[str, Any]

_PARAMETERS = frozenset(
    {
        "cache_control", "max_tokens", "messages", "metadata", "model", "output_config",
        "service_tier", "stop_sequences", "stream", "system", "temperature", "thinking",
        "tool_choice", "tools", "top_k", "top_p",
    }
)  # fmt: skip
_CALL_ID = re.compile(r"[A-Za-z0-9_-]+")
_BREAKPOINTS = 4
_LEAST_BUDGET = 1024
_THINKING = ("thinking", "redacted_thinking")


def check(request: dict[str, Any], *, sign: Callable[[str], str]) -> None:
    """Raise `ValueError` for what the service refuses. `sign` gives a thought's signature."""
    unknown = set(request) - _PARAMETERS
    _need(not unknown, f"{', '.join(sorted(unknown))}: Extra inputs are not permitted")
    limit = request.get("max_tokens", 0)
    _need(limit > 0, "max_tokens: at least 1 is needed")
    turns = [(turn["role"], _listed(turn["content"])) for turn in request.get("messages", ())]
    _check_turns(turns)
    _check_calls(turns)
    blocks = [block for _, blocks in turns for block in blocks]
    blocks += _listed(request.get("system", []))
    for block in blocks:
        _check_block(block, sign)
    marked = sum("cache_control" in block for block in [*blocks, *request.get("tools", ())])
    _need(marked <= _BREAKPOINTS, f"at most {_BREAKPOINTS} blocks may have cache_control")
    if (request.get("thinking") or {}).get("type") == "enabled":
        _check_budget(request["thinking"]["budget_tokens"], limit)
        _check_begun_with_thinking(turns)


def _need(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _listed(content: Any) -> list[Block]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else [*content]


def _check_turns(turns: list[tuple[str, list[Block]]]) -> None:
    _need(turns, "messages: at least one message is required")
    for role, blocks in turns:
        _need(role in ("user", "assistant"), f"messages: Unexpected role {role!r}")
        _need(blocks, "messages: all messages must have non-empty content")
    _need(turns[0][0] == "user", "messages: the first must be the user's")
    _need(turns[-1][0] == "user", "messages: prefill is not supported by this model")


def _check_calls(turns: list[tuple[str, list[Block]]]) -> None:
    """Each call has its result in the turn that follows, before anything else."""
    expected: list[str] = []
    for _, blocks in turns:
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        first = [block["type"] for block in blocks[: len(results)]]
        _need(
            sorted(results) == sorted(expected) and set(first) <= {"tool_result"},
            f"`tool_use` ids {expected} need `tool_result` blocks immediately after: {results}",
        )
        expected = [block["id"] for block in blocks if block["type"] == "tool_use"]
        _need(len(set(expected)) == len(expected), "`tool_use` ids must be unique")


def _check_block(block: Block, sign: Callable[[str], str]) -> None:
    match block:
        case {"type": "text", "text": text}:
            _need(text.strip(), "text content blocks must contain non-whitespace text")
        case {"type": "tool_use", "id": name, "input": arguments}:
            _need(_CALL_ID.fullmatch(name), f"tool_use.id: {name!r} is no id")
            _need(isinstance(arguments, dict), "tool_use.input: should be an object")
        case {"type": "thinking", "thinking": thought, "signature": signature}:
            _need(signature == sign(thought), "Invalid `signature` in `thinking` block")
        case {"type": "tool_result" | "image" | "redacted_thinking"}:
            pass
        case _:
            raise ValueError(f"not a content block: {block}")


def _check_budget(budget: int, limit: int) -> None:
    _need(budget >= _LEAST_BUDGET, f"budget_tokens: at least {_LEAST_BUDGET} are needed")
    _need(budget < limit, "`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_begun_with_thinking(turns: list[tuple[str, list[Block]]]) -> None:
    """A turn that continues after calls must have begun with thinking, if it thinks at all."""
    first = next(_answers_of_last_turn(turns), None)
    if first is not None:
        found = first[0]["type"]
        _need(
            found in _THINKING, f"Expected `thinking` or `redacted_thinking`, but found `{found}`"
        )


def _answers_of_last_turn(turns: list[tuple[str, list[Block]]]) -> Iterator[list[Block]]:
    asked = [
        number
        for number, (role, blocks) in enumerate(turns)
        if role == "user" and any(block["type"] != "tool_result" for block in blocks)
    ]
    yield from (blocks for role, blocks in turns[asked[-1] :] if role == "assistant")
