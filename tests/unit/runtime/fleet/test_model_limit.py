"""Model calls of a batch: fewer at once after a 429, and more again when they are answered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Agent, AgentConfig, Fleet, Session
from paddock.errors import ModelError
from paddock.runtime.core.model import ModelResponse, ModelRetry
from paddock.runtime.fleet.model_limit import ModelLimit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from paddock import Sandbox
    from paddock.runtime.core.model import ModelEvent, ModelRequest
    from tests.unit.runtime.conftest import CountingBackend

PATIENCE = 60


async def begin(limit: ModelLimit, count: int) -> tuple[list[Any], list[contextlib.AsyncExitStack]]:
    stacks = [contextlib.AsyncExitStack() for _ in range(count)]
    return [await stack.enter_async_context(limit.turn()) for stack in stacks], stacks


async def test_a_burst_of_refusals_halves_the_calls_once_and_answers_raise_them_slowly() -> None:
    limit = ModelLimit()
    turns, stacks = await begin(limit, 8)
    assert limit.reason() is None
    for turn in turns:
        turn.limited()
    assert limit.limit == 4
    waiting = asyncio.create_task(begin(limit, 1))
    await asyncio.sleep(0)
    assert limit.reason() == "8 calls of models at once, since the service says 429"
    for stack in stacks[:4]:
        await stack.aclose()
    assert not waiting.done()
    await stacks[4].aclose()
    _, more = await waiting
    for stack in (*more, *stacks[5:]):
        await stack.aclose()
    assert 4 < limit.limit < 5
    assert limit.running == 0
    (turn,), (stack,) = await begin(limit, 1)
    turn.limited()
    await stack.aclose()
    assert limit.limit == 1


async def test_who_is_cancelled_keeps_no_turn() -> None:
    limit = ModelLimit(limit=1)
    _, (first,) = await begin(limit, 1)
    second, third = (asyncio.create_task(begin(limit, 1)) for _ in range(2))
    await asyncio.sleep(0)
    await first.aclose()  # it is the second's turn, which has not run yet
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    _, (stack,) = await asyncio.wait_for(third, PATIENCE)
    await stack.aclose()
    assert (limit.running, limit.waiting) == (0, 0)


class Crowded:
    """A service that takes `most` calls at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.on_call: Callable[[], Awaitable[None]] | None = None
        self.running = self.peak = self.refused = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            for _ in range(20):
                await asyncio.sleep(0)
            if self.on_call is not None:
                await self.on_call()
            if self.running > self.most:
                self.refused += 1
                if self.refused % 2:
                    yield ModelRetry(reason="limited", wait=0, attempt=1, limit=1, status=429)
                else:
                    raise ModelError("limited", status=429)
            yield ModelResponse(text="done", is_priced=True)
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        pass


async def test_the_agents_of_a_batch_share_the_limit(backend: CountingBackend) -> None:
    service = Crowded(2)
    agent = Agent(AgentConfig(backend=backend, system_prompt="Help."))

    async def solve(sandbox: Sandbox, task: Any) -> Any:
        async with Session(agent, client=service) as session:
            return await session.run(task)

    throttled: set[str | None] = set()
    async with asyncio.timeout(PATIENCE), Fleet(backend, limit=16) as fleet:

        async def look() -> None:
            throttled.add((await fleet.progress()).throttled)

        service.on_call = look
        async for result in fleet.map(solve, [f"task {n}" for n in range(60)]):
            assert result.fault in (None, "infra.model"), result.error
    assert service.peak > 2
    assert service.refused < 40, "they were not slowed down"
    assert any("calls of models at once" in each for each in throttled if each)
