"""Runs that wait for an approval, carried elsewhere as data, and gone on with there."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import TraceError
from paddock.runtime.conversation.run_state import RunState
from paddock.runtime.conversation.state import State
from paddock.runtime.core.approval import ToolApprovalItem
from paddock.runtime.session.session import Session
from tests.unit.runtime.deploying import Deploys, results

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.rows("O-20")
async def test_the_state_of_a_run_goes_through_json_and_on(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path
) -> None:
    session = waiting()
    session.system_prompt = "Be brief."
    result = await session.run("Go.")
    assert result.state is not None
    data = json.loads(json.dumps(result.state.to_dict()))
    assert data["session_id"] == session.id
    assert data["system_prompt"] == "Be brief."
    assert data["totals"] == {**session.state.usage, "run_count": 1}
    again = RunState.from_dict(data)
    assert again == result.state
    assert all(isinstance(item, ToolApprovalItem) for item in again.pending_approvals)
    other = Session(
        session.agent,
        state=again.to_state(),
        session_dir=tmp_path / "two",
        client=session._resources.given_client,
    )
    assert other.id == session.id
    done = await other.resume({"b": True, "c": True})
    assert done.status == "completed"
    assert done.state is None
    assert deploys.done == ["here", "there"]
    loaded = State.from_jsonl((tmp_path / "two" / "trace.jsonl").read_bytes())
    assert loaded.messages == other.state.messages


@pytest.mark.parametrize(
    "change",
    [
        {"history": [{"role": "user"}, {"content": "no role"}]},
        {"history": 3},
        {"pending_approvals": [{"tool_call_id": "b"}]},
        {"totals": []},
        {"more": 1},
    ],
)
def test_what_is_not_the_state_of_a_run_is_refused(change: dict[str, Any]) -> None:
    data = RunState.of(State("one"), "Help.").to_dict()
    assert RunState.from_dict(data).session_id == "one"
    with pytest.raises(TraceError):
        RunState.from_dict({**data, **change})


async def test_a_state_carried_as_jsonl_still_knows_what_waits(
    waiting: Callable[[], Session],
) -> None:
    session = waiting()
    result = await session.run("Go.")
    carried = State.from_jsonl(session.state.to_jsonl())
    assert carried.pending_approvals == result.interruptions
    assert carried.status == "interrupted"


@pytest.mark.parametrize("way", ["run state", "jsonl"])
async def test_a_refusal_is_carried_with_the_state_while_other_calls_wait(
    waiting: Callable[[], Session], deploys: Deploys, way: str
) -> None:
    session = waiting()
    await session.run("Go.")
    result = await session.resume({"c": False})
    assert (result.status, [item.tool_call_id for item in result.interruptions]) == (
        "interrupted",
        ["b"],
    )
    assert result.state is not None
    if way == "run state":
        state = RunState.from_dict(json.loads(json.dumps(result.state.to_dict()))).to_state()
    else:
        state = State.from_jsonl(session.state.to_jsonl())
    agent = session.agent.replace(dataclasses.replace(session.agent.config, auto_approve=True))
    other = Session(agent, state=state, client=session._resources.given_client)
    await other.resume({"b": True})
    assert deploys.done == ["here"]
    assert results(other)[2] == "Command rejected by user. Awaiting new instructions."


def test_a_state_carried_as_jsonl_still_knows_which_call_has_begun() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "echo", "arguments": "{}"}}]
    state = State("one")
    state.apply({"type": "message", "role": "assistant", "content": None, "tool_calls": calls})
    state.apply({"type": "tool_start", "tool_call_id": "a", "tool_name": "echo"})
    assert [call.started for call in State.from_jsonl(state.to_jsonl()).open_calls] == [True]
