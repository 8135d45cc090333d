"""One model call: counted before it is made, read to its end, counted after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from paddock._concurrency import finish
from paddock.errors import ContextOverflow, ModelError
from paddock.runtime.core.events import ModelFinished, ModelStarted
from paddock.runtime.core.model import ModelResponse, ModelRetry, TextDelta
from paddock.runtime.core.overflow import is_overflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.model import ModelClient, ModelEvent, ModelRequest

__all__ = ["ModelCaller", "TakeText"]

TakeText = Callable[[str], Awaitable[None]]
"""Given each piece of an answer's text, as it comes."""


@dataclass(kw_only=True)
class ModelCaller:
    """Makes the model calls of one run. `calls` is how many have ended with an answer."""

    client: ModelClient
    meter: UsageMeter
    out: Emitter
    calls: int = 0

    async def call(
        self, request: ModelRequest, take: TakeText, *, context_size: int
    ) -> tuple[ModelResponse, ModelFinished]:
        """Make one model call. The caller emits the event that is returned.

        Raise `BudgetExceeded`, before the call is made, if the budget is used up,
        `ContextOverflow` if the request is too long, and other `ModelError`s. When cancelled,
        the model's stream is closed first.
        """
        self.meter.begin_turn()
        started = await self.out.emit(ModelStarted(model=request.model, context_size=context_size))
        try:
            with self.out.around(started):
                response = await _answer(self.client.stream(request), take, self.out.emit)
        except ModelError as error:
            if is_overflow(error) and not isinstance(error, ContextOverflow):
                raise ContextOverflow(str(error), status=error.status) from error
            raise
        response = _priced(response, request)
        self.meter.spend(response.usage, unpriced=None if response.is_priced else request.model)
        self.calls += 1
        finished = ModelFinished(model=request.model, usage=response.usage, call_index=self.calls)
        return response, finished


def _priced(response: ModelResponse, request: ModelRequest) -> ModelResponse:
    """`response` at the price that the user gave, or else at the one that its client knows."""
    if request.price is not None:
        cost = request.price.cost(response.usage)
        return replace(response, usage=replace(response.usage, cost_usd=cost), is_priced=True)
    if response.usage.cost_usd and not response.is_priced:
        return replace(response, is_priced=True)
    return response


async def _answer(
    stream: AsyncIterator[ModelEvent],
    take: TakeText,
    report: Callable[[ModelRetry], Awaitable[object]],
) -> ModelResponse:
    """Read a model's stream to its end, or close it. `report` gets each retry."""
    response = None
    try:
        async for event in stream:
            match event:
                case TextDelta():
                    await take(event.text)
                case ModelRetry():
                    await report(event)
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
