"""Replacing a long history by the model's own summary of it. Knows no session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from paddock.errors import ModelError
from paddock.runtime.context_window import context_window
from paddock.runtime.conversation.state import compacted, estimate_tokens
from paddock.runtime.core.events import CompactionFinished, CompactionStarted
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.events import CompactionTrigger
    from paddock.runtime.loop import AgentLoop

__all__ = ["compact", "compact_if_full", "window_of"]

FULL = 0.7
"""The part of the context window from which a history is compacted: an answer and the
results of its calls still have to fit into the rest."""

SMALLEST_WINDOW = 4096
"""Tokens. No model that calls tools takes less."""

INSTRUCTIONS = (
    "Write a summary of this conversation. It will take the conversation's place, so that the "
    "work can go on from it alone. Tell what was asked for, what was decided and why, what was "
    "done, which files and commands matter, what failed, and what is still to do. Call no tools."
)


async def window_of(model: str, state: State) -> int | None:
    """How many tokens fit into `model`'s context, as far as it matters for `state`."""
    if _size(state) <= FULL * SMALLEST_WINDOW:
        return None  # so short conversations read no list of models
    return await context_window(model)


async def compact_if_full(loop: AgentLoop, window: Callable[[], Awaitable[int | None]]) -> None:
    """Compact if the history fills so much of `window` (tokens, None for any number) that
    it has to shrink."""
    if not any(message["role"] == "assistant" for message in loop.state.messages):
        return
    size = await window()
    if size is not None and _size(loop.state) > FULL * size:
        await compact(loop, trigger="auto")


async def compact(
    loop: AgentLoop, *, instructions: str = "", trigger: CompactionTrigger
) -> CompactionFinished:
    """Ask `loop`'s model for a summary and put it in place of the history.

    The request is the conversation as it is, with the same system prompt and tools, and
    one message more: so the provider's cache of it serves. Cancelled or failed, the
    history stays as it was. Raises `ModelError` also when no summary comes.
    """
    state = loop.state
    await loop.out.emit(CompactionStarted(trigger=trigger))
    wish = f"{INSTRUCTIONS}\n\n{instructions}" if instructions else INSTRUCTIONS
    request = replace(
        loop.request,
        messages=[
            *loop.request.messages,
            *state.messages,
            {"role": "user", "content": clean_text(wish)},
        ],
        tools=loop.rules().registry.get_specs(),
        response_format=None,
    )
    before = _size(state)

    async def take(_: str) -> None:
        loop.check()

    response, finished = await loop.ask_model(request, take)
    await loop.out.emit(finished)
    summary = clean_text(response.text).strip()
    if not summary:
        raise ModelError("the model gave no summary of the conversation")
    event = CompactionFinished(
        summary=summary,
        tokens_before=before,
        tokens_after=estimate_tokens(compacted(state.messages, summary)),
        trigger=trigger,
    )
    await loop.out.emit(event)
    return event


def _size(state: State) -> int:
    return max(state.last_input_tokens, state.estimate_tokens())
