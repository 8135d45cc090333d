"""Replacing a long history by the model's own summary of it. Knows no session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paddock.errors import ModelError
from paddock.runtime.conversation.state import compacted, estimate_tokens
from paddock.runtime.core.events import CompactionFinished, CompactionStarted
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.caller import ModelCaller
    from paddock.runtime.core.events import CompactionTrigger
    from paddock.runtime.core.model import ModelRequest

__all__ = ["HistoryCompactor"]

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


@dataclass(frozen=True, kw_only=True)
class HistoryCompactor:
    """Keeps the history of `state` below `window` (tokens), or below what `look_up` returns for
    the model. `check` raises when the run is to be cancelled."""

    state: State
    check: Callable[[], None]
    window: int | None
    look_up: Callable[[str], Awaitable[int | None]]

    async def make_room(self, caller: ModelCaller, request: ModelRequest) -> None:
        """See `Compactor.make_room`."""
        if not any(message["role"] == "assistant" for message in self.state.messages):
            return
        size = await self._window(request.model)
        if size is not None and self._size() > FULL * size:
            await self.summarise(caller, request, trigger="auto")

    async def summarise(
        self,
        caller: ModelCaller,
        request: ModelRequest,
        *,
        instructions: str = "",
        trigger: CompactionTrigger,
    ) -> CompactionFinished:
        """Ask the model for a summary and replace the history with it.

        The summary is asked for by `request`, the conversation as it is, with the same system
        prompt and tools and one message more: so the provider's cache of it serves. Cancelled
        or failed, the history stays as it was. Raise `ModelError` also when no summary comes.
        """
        await caller.out.emit(CompactionStarted(trigger=trigger))
        wish = clean_text(f"{INSTRUCTIONS}\n\n{instructions}" if instructions else INSTRUCTIONS)
        asked = replace(
            request,
            messages=[*request.messages, {"role": "user", "content": wish}],
            response_format=None,
        )
        before = self._size()

        async def take(_: str) -> None:
            self.check()

        response, finished = await caller.call(
            asked, take, context_size=self.state.estimate_tokens()
        )
        await caller.out.emit(finished)
        summary = clean_text(response.text).strip()
        if not summary:
            raise ModelError("the model gave no summary of the conversation")
        event = CompactionFinished(
            summary=summary,
            tokens_before=before,
            tokens_after=estimate_tokens(compacted(self.state.messages, summary)),
            trigger=trigger,
        )
        await caller.out.emit(event)
        return event

    async def _window(self, model: str) -> int | None:
        """How many tokens fit into `model`'s context, as far as it matters for the history."""
        if self.window is not None:
            return self.window
        if self._size() <= FULL * SMALLEST_WINDOW:
            return None  # so short conversations read no list of models
        return await self.look_up(model)

    def _size(self) -> int:
        return max(self.state.last_input_tokens, self.state.estimate_tokens())
