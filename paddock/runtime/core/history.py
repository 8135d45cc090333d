"""What the loop reads of a conversation. It changes one only by emitting events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.core.calls import OpenCall
    from paddock.runtime.core.model import Message, Usage

__all__ = ["History"]


class History(Protocol):
    """The messages of one session over all its runs, without the system prompt."""

    @property
    def messages(self) -> Sequence[Message]: ...

    @property
    def total(self) -> Usage:
        """Usage over all runs."""
        ...

    @property
    def last_input_tokens(self) -> int:
        """Input tokens of the last model call; 0 if the history was replaced since."""
        ...

    @property
    def open_calls(self) -> Sequence[OpenCall]:
        """The last answer's tool calls that have no result yet, in its order."""
        ...

    @property
    def has_answer(self) -> bool:
        """Whether the last message is an answer of the model's, whole and without calls."""
        ...

    def open_call(self, call_id: str) -> OpenCall | None: ...

    def has_call(self, call_id: str) -> bool:
        """Return whether a call of this id was made before."""
        ...

    def estimate_tokens(self) -> int:
        """Return the approximate size of the messages. Costs nothing for a long history."""
        ...
