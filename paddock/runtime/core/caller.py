"""One model call: counted before it is made, read to its end, counted after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from paddock._concurrency import finish
from paddock.errors import ContextOverflow, ModelError
from paddock.runtime.core.events import ModelFinished, ModelStarted, ReasoningAdded
from paddock.runtime.core.gate import MODEL_GATE
from paddock.runtime.core.model import (
    ModelResponse,
    ModelRetry,
    ReasoningDelta,
    TextDelta,
    Usage,
    UsageSoFar,
)
from paddock.runtime.core.overflow import is_overflow
from paddock.runtime.core.size import CHARS_PER_TOKEN, estimate_request
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.model import ModelClient, ModelEvent, ModelRequest

__all__ = ["ModelCaller", "PriceUsage", "TakeText"]

PriceUsage = Callable[["ModelRequest", Usage], Awaitable[Usage]]
"""Returns the usage of a request with its cost, where that is known."""

TakeText = Callable[[str], Awaitable[None]]
"""Given each piece of an answer's text, as it comes."""

TOO_MANY = 429
"""The HTTP status of a service that has too many requests."""


@dataclass(kw_only=True)
class ModelCaller:
    """Makes the model calls of one run. `calls` is how many were answered, if only in part.

    `price` returns a usage with its cost, where that is known.
    """

    client: ModelClient
    meter: UsageMeter
    out: Emitter
    price: PriceUsage
    calls: int = 0

    async def call(
        self, request: ModelRequest, take: TakeText, *, context_size: int
    ) -> tuple[ModelResponse, ModelFinished]:
        """Make one model call. The caller emits the event that is returned.

        Raise `BudgetExceeded`, before the call is made, if the budget is used up,
        `ContextOverflow` if the request is too long, and other `ModelError`s. When cancelled,
        the model's stream is closed first. An answer that was cancelled or broke off is counted
        as far as it came.
        """
        self.meter.begin_turn()
        started = await self.out.emit(ModelStarted(model=request.model, context_size=context_size))
        answer = _Answer(take, self.out.emit)
        try:
            with self.out.around(started):
                response = await self._answered(request, answer)
        except BaseException as error:
            if answer.has_begun or isinstance(error, asyncio.CancelledError):
                await finish(self._keep_part(request, answer))
            elif isinstance(error, ModelError) and is_overflow(error):
                raise ContextOverflow(str(error), status=error.status) from error
            raise
        response = _priced(response, request)
        unpriced = None if response.is_priced else request.model
        finished = self._count(request, response.usage, unpriced=unpriced)
        return response, replace(finished, finish_reason=response.finish_reason)

    async def _answered(self, request: ModelRequest, answer: _Answer) -> ModelResponse:
        """Make the call when it is its turn."""
        gate = MODEL_GATE.get()
        if gate is None:
            return await answer.read(self.client.stream(request))
        async with gate.turn() as turn:
            answer.on_limited = turn.limited
            try:
                return await answer.read(self.client.stream(request))
            except ModelError as error:
                if error.status == TOO_MANY:
                    turn.limited()
                raise

    async def _keep_part(self, request: ModelRequest, answer: _Answer) -> None:
        """Count an answer that was cut short."""
        usage = await self.price(request, answer.usage_of(request))
        self.out.keep(self._count(request, usage, is_cut_short=True))

    def _count(
        self,
        request: ModelRequest,
        usage: Usage,
        *,
        unpriced: str | None = None,
        is_cut_short: bool = False,
    ) -> ModelFinished:
        self.meter.spend(usage, unpriced=unpriced)
        self.calls += 1
        return ModelFinished(
            model=request.model, usage=usage, call_index=self.calls, is_cut_short=is_cut_short
        )


def _priced(response: ModelResponse, request: ModelRequest) -> ModelResponse:
    """`response` at the price that the user gave, or else at the one that its client knows."""
    if request.price is not None:
        cost = request.price.cost(response.usage)
        return replace(response, usage=replace(response.usage, cost_usd=cost), is_priced=True)
    if response.usage.cost_usd and not response.is_priced:
        return replace(response, is_priced=True)
    return response


@dataclass
class _Answer:
    """An answer as it comes. `take` gets its text, and `report` each retry and what the model
    thinks."""

    take: TakeText
    report: Callable[[ModelRetry | ReasoningAdded], Awaitable[object]]
    on_limited: Callable[[], None] = lambda: None
    """Called when the service has too many requests."""
    _characters: int = 0
    _counted: Usage | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the service has sent any of it."""
        return self._characters > 0 or self._counted is not None

    def usage_of(self, request: ModelRequest) -> Usage:
        """Return what the answer to `request` took as far as it came: what the service counted,
        or else an estimate."""
        counted = Usage() if self._counted is None else self._counted
        return replace(
            counted,
            input_tokens=counted.input_tokens or estimate_request(request),
            output_tokens=max(counted.output_tokens, self._characters // CHARS_PER_TOKEN),
        )

    async def _retry(self, event: ModelRetry) -> None:
        if event.status == TOO_MANY:
            self.on_limited()
        await self.report(event)

    async def read(self, stream: AsyncIterator[ModelEvent]) -> ModelResponse:
        """Read a model's stream to its end, or close it."""
        response = None
        try:
            async for event in stream:
                match event:
                    case TextDelta():
                        self._characters += len(event.text)
                        await self.take(event.text)
                    case ReasoningDelta():
                        self._characters += len(event.text)
                        await self.report(ReasoningAdded(text=clean_text(event.text)))
                    case UsageSoFar():
                        self._counted = event.usage
                    case ModelRetry():
                        await self._retry(event)
                    case ModelResponse():
                        response = event
                    case _:
                        assert_never(event)
        except BaseException:
            if isinstance(stream, AsyncGenerator):
                await finish(stream.aclose())
            raise
        if response is None:
            raise ModelError("the model's stream ended without an answer")
        return response
