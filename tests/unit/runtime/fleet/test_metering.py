"""Where an attempt's time goes: each second is counted once."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

from paddock import Agent, AgentConfig, Fleet, ScriptedModel
from paddock.runtime.core.emitter import TOP, Envelope
from paddock.runtime.core.events import ModelFinished, ModelStarted, ToolFinished, ToolStarted
from paddock.runtime.core.model import Usage
from paddock.runtime.fleet.ledger import Ledger
from paddock.runtime.fleet.metering import AgentMeter
from tests.unit.runtime.conftest import FunctionTool

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import Sandbox
    from tests.unit.runtime.conftest import CountingBackend

MODEL = (
    ModelStarted(model="m", context_size=1),
    ModelFinished(model="m", usage=Usage(), call_index=1),
)


def tool(call_id: str) -> tuple[ToolStarted, ToolFinished]:
    return (
        ToolStarted(call_id=call_id, tool_name="t", arguments={}),
        ToolFinished(call_id=call_id, tool_name="t", content="", success=True, duration=9.0),
    )


def test_calls_at_the_same_time_are_counted_once_and_a_model_before_tools() -> None:
    now = 0.0
    meter = AgentMeter(lambda: now)
    first, second = tool("a"), tool("b")
    below = TOP.below("child", "b")
    story: list[tuple[float, Any, Any]] = [
        (1, MODEL[0], TOP),  # nobody's before
        (3, MODEL[1], TOP),  # 2 of the model
        (3, first[0], TOP),
        (4, second[0], TOP),
        (6, MODEL[0], below),  # 3 of tools
        (7, first[1], TOP),
        (10, MODEL[1], below),  # 4 of the model of an agent that works for a tool call
        (11, second[1], TOP),  # 1 of tools
        (20, MODEL[0], TOP),
    ]
    for at, event, origin in story:
        now = at
        when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        meter.keep(Envelope(seq=1, at=when, session_id="s", run_id=1, origin=origin, event=event))
    now = 21
    meter.stop()
    now = 30
    meter.stop()
    assert meter.seconds == {"model": 2 + 4 + 1, "tools": 3 + 1}


async def test_an_agents_time_and_cost_are_in_the_ledger_and_shown_while_it_runs(
    backend: CountingBackend, tmp_path: Path
) -> None:
    async def pause() -> str:
        await asyncio.sleep(0.05)
        return "paused"

    call = {"tool_calls": [{"name": "pause", "arguments": {}}], "usage": {"cost_usd": 0.25}}
    agent = Agent(
        AgentConfig(system_prompt="Help.", auto_approve=True),
        model=ScriptedModel([call, {"text": "Done.", "usage": {"cost_usd": 0.5}}] * 2),
    )
    agent.registry.register(FunctionTool(pause))
    costs = []
    async with Fleet(backend, out=tmp_path / "run", limit=1) as fleet:
        async for result in fleet.map(agent, ["one", "two"]):
            assert result.error is None
            costs.append((await fleet.progress()).cost)
    assert costs == [0.75, 1.5]
    ledger = Ledger(tmp_path / "run/ledger.db")
    entry = next(ledger.finished())
    assert ledger.cost() == 1.5
    ledger.close()
    stages = entry.attempt.details["stages"]
    assert stages["tools"] >= 0.05
    assert {"queue", "create", "run", "collect"} <= stages.keys()
    assert sum(stages.values()) - stages["queue"] <= entry.ended - entry.began


async def test_all_that_is_done_for_the_verification_is_counted_as_such(
    backend: CountingBackend, tmp_path: Path
) -> None:
    async def work(sandbox: Sandbox, task: Any) -> None:
        await asyncio.sleep(0)

    async def verify(sandbox: Sandbox, task: Any) -> None:
        await asyncio.sleep(0.05)

    async with Fleet(backend, out=tmp_path / "run", verify=verify) as fleet:
        async for _ in fleet.map(work, ["one"]):
            pass
    ledger = Ledger(tmp_path / "run/ledger.db")
    stages = next(ledger.finished()).attempt.details["stages"]
    ledger.close()
    assert stages["verify"] >= 0.05
    assert stages["create"] < stages["verify"], "the fresh sandbox is the verification's"
