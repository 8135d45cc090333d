"""What runs may use up, and how they end when it is used up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import BudgetExceeded, ConfigError
from paddock.runtime.conversation.state import State
from paddock.runtime.core.budget import Budget, UsageMeter
from paddock.runtime.core.model import ModelRequest, ModelResponse, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message, ModelEvent
    from tests.unit.runtime.conftest import OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]

LONG = 3600.0


def step() -> str:
    return "stepped"


def turns(number: int = 9) -> list[dict[str, Any]]:
    usage = {"input_tokens": 90, "output_tokens": 10, "cost_usd": 0.25}
    return [{"text": "On.", "tool_calls": [{"name": "step"}], "usage": usage}] * number


@pytest.mark.parametrize(
    ("budget", "made", "reason"),
    [
        (Budget(turns=2), 2, "the budget of 2 model calls is used up: 2"),
        (Budget(tokens=250), 3, "the budget of 250 tokens is used up: 300"),
        (Budget(tokens=1_000_000, turns=1), 1, "the budget of 1 model calls is used up: 1"),
        (Budget(cost=0.5), 2, "the budget of 0.5 US dollars is used up: 0.5"),
        (Budget(seconds=0), 0, "the budget of 0 seconds is used up"),
    ],
    ids=str,
)
async def test_a_run_ends_when_its_budget_is_used_up(
    open_session: OpenSession,
    check_history: CheckHistory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: Budget,
    made: int,
    reason: str,
) -> None:
    session = open_session(turns(), step, session_dir=tmp_path)
    result = await session.run("Go.", budget=budget)
    assert result.status == session.state.status == "budget"
    assert result.reason is not None
    assert result.reason.startswith(reason)
    assert [event.content for event in result.events if event.type == "error"] == [result.reason]
    answers = [m for m in session.state.messages if m["role"] == "assistant"]
    assert len(answers) == made
    check_history(session.state.messages)
    assert State.from_jsonl((tmp_path / "trace.jsonl").read_bytes()).status == "budget"
    assert (await session.run("On.", max_turns=1)).status == "max_turns", "it was for one run"


class Unpriced:
    """Calls a tool each time; nobody says what it costs."""

    def __init__(self) -> None:
        self.asked = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked += 1
        usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
        call = ToolCall(id=f"c{self.asked}", name="step", arguments="{}")
        yield ModelResponse(tool_calls=(call,), usage=usage)

    async def aclose(self) -> None:
        pass


async def test_a_cost_budget_without_any_price_ends_the_run_after_one_answer(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    model = Unpriced()
    session = open_session([], step, client=model, config={"model": "team/best"})
    with pytest.raises(ConfigError, match=r"'team/best' .* `prices`"):
        await session.run("Go.", budget=Budget(cost=100))
    assert model.asked == 1
    check_history(session.state.messages)


async def test_a_cost_budget_holds_at_the_prices_that_the_user_gives(
    open_session: OpenSession,
) -> None:
    model = Unpriced()
    config = {"model": "team/best", "prices": {"team/best": {"input": 1, "output": 4}}}
    session = open_session([], step, client=model, config=config)
    result = await session.run("Go.", budget=Budget(cost=8))
    assert (result.status, model.asked, result.usage["cost_usd"]) == ("budget", 2, 10.0)


async def test_the_time_that_is_up_ends_what_is_going_on(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def step() -> str:
        begun.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.set()
        return "never"

    for seconds in (0.05, 0.5, 5.0):  # a busy machine may take longer to get there
        session = open_session(turns(), step)
        result = await session.run("Go.", budget=Budget(seconds=seconds))
        assert result.status == "budget"
        check_history(session.state.messages)
        if begun.is_set():
            assert "Cancelled while it ran" in session.state.messages[-1]["content"]
            break
    assert ended.is_set()


async def test_a_sessions_budget_is_for_all_its_runs(open_session: OpenSession) -> None:
    session = open_session(turns(), step)
    session.budget = Budget(turns=3)
    assert (await session.run("Go.", max_turns=2)).status == "max_turns"
    assert (await session.run("Go.")).status == "budget"
    assert session.state.usage["input_tokens"] == 270
    assert (await session.run("Go.")).status == "budget"
    assert session.state.usage["input_tokens"] == 270, "no call was made any more"
    session.budget = None
    assert (await session.run("Go.", max_turns=1)).status == "max_turns"


async def test_sessions_that_share_a_meter_add_up(open_session: OpenSession) -> None:
    meter = UsageMeter(Budget(turns=3))
    sessions = [open_session(turns(), step) for _ in range(2)]
    for session in sessions:
        session.budget = meter
        assert session.budget == Budget(turns=3)
    first, second = [await session.run("Go.", max_turns=2) for session in sessions]
    assert (first.status, second.status) == ("max_turns", "budget")
    assert meter.turns == 3
    assert meter.usage == Usage(input_tokens=270, output_tokens=30, cost_usd=0.75)


async def test_what_an_agent_spends_for_another_counts_for_both(
    open_session: OpenSession,
) -> None:
    meter = UsageMeter(Budget(turns=5))

    async def step() -> str:
        child = open_session(turns(), inner)
        child.budget = UsageMeter(Budget(), parent=meter)
        return (await child.run("Help.", max_turns=2)).status

    def inner() -> str:
        return ""

    inner.__name__ = "step"
    session = open_session(turns(), step)
    session.budget = meter
    result = await session.run("Go.")
    statuses = [m["content"] for m in session.state.messages if m["role"] == "tool"]
    assert statuses == ["max_turns", "budget"]
    assert result.status == "budget"


def test_time_that_runs_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("paddock.runtime.core.budget.time.monotonic", lambda: now[0])
    above = UsageMeter(Budget(seconds=10))
    below = UsageMeter(Budget(seconds=50), parent=above)
    with above.running(), below.running():
        now[0] += 4
        assert below.seconds_left() == 6
    now[0] += 100
    assert above.seconds == below.seconds == 4, "between runs no time counts"
    with below.running():
        now[0] += 6
        with pytest.raises(BudgetExceeded, match="10 seconds is used up: 10"):
            below.check()
        assert below.seconds_left() == 0
    assert UsageMeter(Budget()).seconds_left() is None


@pytest.mark.parametrize(
    "bounds", [{"turns": -1}, {"tokens": -5}, {"cost": -0.1}, {"seconds": float("nan")}]
)
def test_a_bound_below_zero_is_none(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a budget's"):
        Budget(**bounds)
