"""How many calls of models a batch makes at once: fewer when the service says 429, then more again.

Additive increase, multiplicative decrease, as TCP shares a line that it cannot see.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ModelLimit", "Turn"]

DECREASE = 0.5
"""What is left of the calls at once after a 429."""


@dataclass(slots=True)
class Turn:
    """One call, which began when the limit had been lowered `round` times."""

    limit: ModelLimit
    round: int
    was_limited: bool = False

    def limited(self) -> None:
        self.was_limited = True
        self.limit.lower(self.round)


@dataclass(slots=True, kw_only=True)
class ModelLimit:
    """A `ModelGate` for all attempts of a batch. Without any 429 it limits nothing.

    Each call that began before the limit was lowered may be refused for the same reason, so
    only one of them lowers it.
    """

    limit: float = math.inf
    running: int = 0
    _round: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def reason(self) -> str | None:
        """Return why a call waits; None if none does."""
        if not self.waiting:
            return None
        return f"{self.running} calls of models at once, since the service says 429"

    @property
    def waiting(self) -> int:
        return sum(not each.done() for each in self._waiting)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """See `ModelGate.turn`; first come, first served."""
        await self._wait()
        turn = Turn(self, self._round)
        try:
            yield turn
        except BaseException:
            self._end()
            raise
        if not turn.was_limited:
            self.limit += 1 / self.limit
        self._end()

    def lower(self, seen: int) -> None:
        """Lower the limit because of a call that began in the round `seen`."""
        if seen == self._round:
            self._round += 1
            self.limit = max(1.0, min(self.limit, self.running) * DECREASE)

    async def _wait(self) -> None:
        if self.running + 1 <= self.limit and not self.waiting:
            self.running += 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():  # it was its turn already
                self._end()
            raise

    def _end(self) -> None:
        self.running -= 1
        while self._waiting and self.running + 1 <= self.limit:
            first = self._waiting.popleft()
            if not first.done():
                self.running += 1
                first.set_result(None)
