"""What the loop of one run works with: plain data, and protocols that others implement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from paddock.runtime.core.caller import ModelCaller

if TYPE_CHECKING:
    from paddock.errors import ContextOverflow
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.caller import PriceUsage
    from paddock.runtime.core.context import RunContext
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.history import History
    from paddock.runtime.core.model import ModelClient, ModelRequest
    from paddock.runtime.core.response_format import AnswerFormat
    from paddock.runtime.core.rules import ApprovalGate, Rules

__all__ = ["BudgetGate", "Compactor", "LoopSpec"]

BudgetGate = Callable[[int], str | Awaitable[str | None] | None]
"""Called with the input tokens of the last model call; a returned text goes to the agent as the
user's."""


class Compactor(Protocol):
    """Keeps a conversation within the model's context window."""

    async def make_room(self, caller: ModelCaller, request: ModelRequest) -> bool:
        """Shorten the history if `request`, which is about to be sent, is too long.

        The history is changed by emitting events. Return whether it was.
        """
        ...

    async def after_overflow(
        self, caller: ModelCaller, request: ModelRequest, error: ContextOverflow
    ) -> None:
        """Shorten the history because the service refused `request` as too long.

        Raise `ModelError` when the history cannot be made shorter.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoopSpec:
    """What the loop of one run works with.

    - `request` is what all model calls have in common; its messages precede the `history`.
    - `rules` returns the rules for tool calls at that moment; they may change during a run.
    - `check` raises when the run is to be cancelled.
    - `context` is what tools get, but for what is different in each call.
    - `before_call` is awaited before each model call.
    - `price` returns a usage with its cost, for answers that were cut short.
    - `answer_format` is what the final answer has to be, and `answer_repairs` how often the model
      may answer again that did not answer so.
    """

    client: ModelClient
    request: ModelRequest
    history: History
    rules: Callable[[], Rules]
    gate: ApprovalGate
    context: RunContext[Any]
    out: Emitter
    meter: UsageMeter
    check: Callable[[], Awaitable[None]]
    before_call: Callable[[], Awaitable[None]]
    price: PriceUsage
    compactor: Compactor | None = None
    answer_format: AnswerFormat | None = None
    answer_repairs: int = 1
    budget_gate: BudgetGate | None = None

    def make_caller(self) -> ModelCaller:
        return ModelCaller(client=self.client, meter=self.meter, out=self.out, price=self.price)

    @property
    def system_prompt(self) -> str:
        """What every request begins with."""
        return "".join(message["content"] for message in self.request.messages)

    def full_request(self, rules: Rules) -> ModelRequest:
        """Return the request for the next answer: with the conversation, and the tools that
        `rules` allow."""
        return replace(
            self.request,
            messages=[*self.request.messages, *self.history.messages],
            tools=rules.registry.get_specs(),
        )
