"""Keeping a long history within the model's context window. Knows no session.

A history that fills most of the window is replaced by the model's own summary of it. One that
no longer fits, by its size or because the service refused it, first loses the oldest
tool results, and is summarised only if that does not suffice. All that is kept is bounded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paddock.errors import ContextOverflow, ModelError
from paddock.runtime.conversation.shortening import (
    SAID_TOKENS,
    fit,
    shorten,
    shortened,
    shortened_text,
)
from paddock.runtime.conversation.state import recent_prompts, summary_message
from paddock.runtime.core.events import CompactionFinished, CompactionStarted
from paddock.runtime.core.size import estimate_request, estimate_tokens
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.caller import ModelCaller
    from paddock.runtime.core.events import CompactionTrigger
    from paddock.runtime.core.model import Message, ModelRequest

__all__ = ["HistoryCompactor"]

FULL = 0.7
"""The part of the context window from which a history is compacted: an answer and the
results of its calls still have to fit into the rest."""

SMALLEST_WINDOW = 4096
"""Tokens. No model that calls tools takes less."""

USUAL_WINDOW = 32_768
"""Tokens. What is kept beside a summary is bounded as for such a model, where the window is not
known: most models take more."""

LEAST_GAIN = 0.1
"""The part of the window by which a history has to have grown since it was last compacted: one
that is long for another reason, such as many tools, would be compacted at each turn."""

LEAST_ROOM = 250
"""Tokens. A history this short is not what fills the context."""

MOST_PER_ESTIMATED = 4.0
"""Tokens that a service may count for each that we estimate: one for each character."""

INSTRUCTIONS = (
    "Write a summary of this conversation. It will take the conversation's place, so that the "
    "work can continue from it alone. Tell what was asked for, what was decided and why, what was "
    "done, which files and commands matter, what failed, and what is still to do. Call no tools."
)


@dataclass(frozen=True, kw_only=True)
class HistoryCompactor:
    """Keeps the history of `state` below `window` (tokens), or below what `look_up` returns for
    the model. `check` raises when the run is to be cancelled."""

    state: State
    check: Callable[[], Awaitable[None]]
    window: int | None
    look_up: Callable[[str], Awaitable[int | None]]

    async def make_room(self, caller: ModelCaller, request: ModelRequest) -> bool:
        """See `Compactor.make_room`."""
        window = await self._window(request.model)
        if window is None or not self._is_full(window):
            return False
        room = self._room(request, window)
        await caller.out.emit(CompactionStarted(trigger="auto"))
        if self.state.estimate_tokens() > room:  # a request for a summary would not fit either
            kept = await asyncio.to_thread(shorten, self.state.messages, room // 2)
            if estimate_tokens(kept) <= FULL * room:
                await self._finish(caller, kept, "", "auto")
                return True
        await self._summarise(caller, request, INSTRUCTIONS, room, "auto")
        return True

    async def after_overflow(
        self, caller: ModelCaller, request: ModelRequest, error: ContextOverflow
    ) -> None:
        """See `Compactor.after_overflow`. The history is halved, at least."""
        room = self.state.estimate_tokens() // 2
        if room < LEAST_ROOM:
            raise _cannot_shrink(estimate_request(request), error)
        kept = await asyncio.to_thread(shorten, self.state.messages, room)
        has_answers = any(message["role"] == "assistant" for message in kept)
        if not has_answers:  # of earlier runs there are only unanswered prompts
            kept = [*(shortened(message, SAID_TOKENS) for message in kept[:-1]), *kept[-1:]]
        if estimate_tokens(kept) > room and not has_answers:
            raise _cannot_shrink(estimate_request(request), error)
        await caller.out.emit(CompactionStarted(trigger="auto"))
        if estimate_tokens(kept) <= room:
            await self._finish(caller, kept, "", "auto")
        else:
            await self._summarise(caller, request, INSTRUCTIONS, room, "auto")

    async def compact(
        self,
        caller: ModelCaller,
        request: ModelRequest,
        instructions: str,
        trigger: CompactionTrigger,
    ) -> CompactionFinished:
        """Replace the history with a summary, as its user asked for.

        Cancelled or failed, the history stays as it was. Raise `ModelError` also when no
        summary comes.
        """
        wish = f"{INSTRUCTIONS}\n\n{instructions}" if instructions else INSTRUCTIONS
        window = await self._window(request.model)
        room = self._room(request, USUAL_WINDOW if window is None else window)
        await caller.out.emit(CompactionStarted(trigger=trigger))
        return await self._summarise(caller, request, wish, room, trigger, fits=window is None)

    async def _summarise(
        self,
        caller: ModelCaller,
        request: ModelRequest,
        wish: str,
        room: int,
        trigger: CompactionTrigger,
        *,
        fits: bool = False,
    ) -> CompactionFinished:
        """Replace the history by the last prompts and a summary: in a quarter and in an
        eighth of `room`.

        The history is sent as far as it fits into `room`, or whole if it `fits`; less of it if
        the service refuses that.
        """
        history: Sequence[Message] = self.state.messages
        if not fits:
            history = await asyncio.to_thread(fit, history, room)
        summary = ""
        while not summary:
            try:
                summary = await self._ask(caller, request, history, wish)
            except ContextOverflow as error:
                room = estimate_tokens(history) // 2
                if room < LEAST_ROOM:
                    raise _cannot_shrink(estimate_request(request), error) from error
                history = await asyncio.to_thread(fit, history, room)
        kept: list[Message] = []
        left = room // 4
        for prompt in reversed(recent_prompts(self.state.messages)):
            kept.insert(0, shortened(prompt, max(left, SAID_TOKENS)))
            left -= estimate_tokens(kept[:1])
        return await self._finish(caller, kept, shortened_text(summary, room // 8), trigger)

    async def _ask(
        self, caller: ModelCaller, request: ModelRequest, history: Sequence[Message], wish: str
    ) -> str:
        """Ask for a summary of `history`.

        The request is the one for the next answer, with one message more: so the provider's
        cache of it serves.
        """
        prologue = request.messages[: len(request.messages) - len(self.state.messages)]
        messages = [*prologue, *history, {"role": "user", "content": clean_text(wish)}]
        asked = replace(request, messages=messages, response_format=None)

        async def take(_: str) -> None:
            await self.check()

        size = estimate_tokens(history)
        response, finished = await caller.call(asked, take, context_size=size)
        await caller.out.emit(finished)
        summary = clean_text(response.text).strip()
        if not summary:
            raise ModelError("the model gave no summary of the conversation")
        return summary

    async def _finish(
        self,
        caller: ModelCaller,
        kept: Sequence[Message],
        summary: str,
        trigger: CompactionTrigger,
    ) -> CompactionFinished:
        messages = [*kept, summary_message(summary)] if summary else kept
        event = CompactionFinished(
            kept=kept,
            summary=summary,
            tokens_before=self.state.context_tokens,
            tokens_after=estimate_tokens(messages),
            trigger=trigger,
        )
        await caller.out.emit(event)
        return event

    async def _window(self, model: str) -> int | None:
        """How many tokens fit into `model`'s context, as far as it matters for the history."""
        if self.window is not None:
            return self.window
        if self.state.context_tokens <= FULL * SMALLEST_WINDOW:
            return None  # so short conversations read no list of models
        return await self.look_up(model)

    def _is_full(self, window: int) -> bool:
        grown = self.state.tokens_since_compaction
        return (
            self.state.context_tokens > FULL * window
            and (grown is None or grown > LEAST_GAIN * window)
            and any(message["role"] == "assistant" for message in self.state.messages)
        )

    def _room(self, request: ModelRequest, window: int) -> int:
        """How many estimated tokens of the history fit beside the system prompt and the tools."""
        estimated = max(1, estimate_request(request))
        rate = min(MOST_PER_ESTIMATED, max(1.0, self.state.context_tokens / estimated))
        others = estimated - self.state.estimate_tokens()
        return max(int(window / rate) - others, SMALLEST_WINDOW // 4)


def _cannot_shrink(tokens: int, error: ContextOverflow) -> ModelError:
    return ModelError(
        f"the request of about {tokens} tokens does not fit into the model's context, and the "
        "conversation cannot be made shorter: shorten the prompt, the system prompt or the list "
        f"of tools, or use a model with a larger context ({error})",
        status=error.status,
    )
