"""What runs may use up: a `Budget` says how much, a `UsageMeter` counts it.

Meters form a tree, as delegation does: what is spent on one is spent on those above it,
so agents that work for another count for it too. Knows no run and no model.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.errors import BudgetExceeded, ConfigError
from paddock.runtime.core.model import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager

__all__ = ["Budget", "UsageMeter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bounds; None is no bound. Checked before each model call, so the call that goes beyond
    a bound is made and its tools run, and the next one is not made. `seconds` also ends
    what is going on.

    - `turns`: model calls, those for compaction included, and those that failed. Never
      more, however many agents work at once.
    - `tokens`: input and output together, known only when a call has ended. So they may go
      beyond the bound by what all the calls take that are going on when it is reached.
    - `cost`: US dollars, of which the same is true. It needs a source of prices: after an
      answer whose cost is not known, the run ends with a `ConfigError`.
    - `seconds`: wall time while a run is active.

    Raises `ConfigError` for a bound below zero.
    """

    turns: int | None = None
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("turns", "tokens", "cost", "seconds"):
            bound = getattr(self, name)
            if bound is not None and not bound >= 0:
                raise ConfigError(f"a budget's {name} cannot be {bound!r}")


class UsageMeter:
    """Counts what one `budget` bounds. For one event loop; any number of runs may share it.

    Give one to several sessions to bound them together. What is spent here is spent on
    `parent`, too, and its bounds hold here.
    """

    def __init__(self, budget: Budget, *, parent: UsageMeter | None = None) -> None:
        self.budget = budget
        self.parent = parent
        self._turns = 0
        self._usage = Usage()
        self._unpriced: str | None = None
        self._seconds = 0.0
        self._running = 0
        self._since = 0.0

    @property
    def turns(self) -> int:
        """Model calls that were begun."""
        return self._turns

    @property
    def usage(self) -> Usage:
        """The tokens and the cost of those that have ended."""
        return self._usage

    @property
    def seconds(self) -> float:
        """For how long runs went on; those that went on together count once."""
        now = time.monotonic() - self._since if self._running else 0.0
        return self._seconds + now

    def begin_turn(self) -> None:
        """Enter one model call, here and above, before it is made.

        Raises `BudgetExceeded`, and enters nothing, if a bound is reached.
        """
        self.check()
        for meter in self._upwards():
            meter._turns += 1

    def spend(self, usage: Usage, *, unpriced: str | None = None) -> None:
        """Enter what a model call took, here and above.

        `unpriced` is the name of a model whose price is not known.
        """
        for meter in self._upwards():
            meter._usage += usage
            meter._unpriced = meter._unpriced or unpriced

    def enter(self, usage: Usage, *, turns: int, seconds: float = 0.0) -> None:
        """Enter, here and above, what was used before: a run that is resumed has used it."""
        for meter in self._upwards():
            meter._usage += usage
            meter._turns += turns
            meter._seconds += seconds

    def check_prices(self) -> None:
        """Raise `ConfigError` if a cost is bounded, here or above, and was not known."""
        for meter in self._upwards():
            if meter.budget.cost is not None and meter._unpriced is not None:
                raise ConfigError(
                    f"the budget of {meter.budget.cost:g} US dollars cannot be kept: the price of "
                    f"the model {meter._unpriced!r} is not known; give it in `prices` "
                    "(AgentConfig.prices, --price)"
                )

    def check(self) -> None:
        """Raise `BudgetExceeded` if a bound is reached, here or above."""
        for meter in self._upwards():
            meter._check()

    def seconds_left(self) -> float | None:
        """Until the first bound in time, here or above; None if there is none."""
        left = [
            max(0.0, meter.budget.seconds - meter.seconds)
            for meter in self._upwards()
            if meter.budget.seconds is not None
        ]
        return min(left, default=None)

    def in_time(self) -> AbstractAsyncContextManager[None]:
        """The block is cancelled when time is up, here or above; raises `BudgetExceeded` then."""
        left = self.seconds_left()
        return contextlib.nullcontext() if left is None else self._within(left)

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                yield
        except TimeoutError:
            if clock.expired():
                self.check()
            raise

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time counts, here and above, while the block runs."""
        meters = tuple(self._upwards())
        for meter in meters:
            meter._enter()
        try:
            yield
        finally:
            for meter in meters:
                meter._leave()

    def _upwards(self) -> Iterator[UsageMeter]:
        meter: UsageMeter | None = self
        while meter is not None:
            yield meter
            meter = meter.parent

    def _check(self) -> None:
        tokens = self._usage.input_tokens + self._usage.output_tokens
        self._compare("turns", self.budget.turns, self._turns)
        self._compare("tokens", self.budget.tokens, tokens)
        self._compare("cost", self.budget.cost, self._usage.cost_usd)
        self._compare("seconds", self.budget.seconds, self.seconds)

    @staticmethod
    def _compare(what: str, limit: float | None, spent: float) -> None:
        if limit is not None and spent >= limit:
            raise BudgetExceeded(what, limit=limit, spent=spent)

    def _enter(self) -> None:
        if not self._running:
            self._since = time.monotonic()
        self._running += 1

    def _leave(self) -> None:
        self._running -= 1
        if not self._running:
            self._seconds += time.monotonic() - self._since
