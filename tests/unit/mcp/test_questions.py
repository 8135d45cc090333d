"""What a server asks in the middle of a call goes to whoever approves calls, and never hangs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Decision, LocalBackend, Session, create_runtime
from paddock.runtime.core.pausing import PausableTimeout
from paddock.runtime.orchestration.define import define_runtime, define_specialist, define_tenant
from tests.unit.mcp.agents import Call, agent_of, results, script_of
from tests.unit.runtime.orchestration.teams import MODEL, PATIENCE, PROVIDERS, call, script
from tests.unit.runtime.orchestration.teams import results as results_of

if TYPE_CHECKING:
    from paddock.runtime.orchestration.runtime import Runtime

ASKING = {
    "name": "asking",
    "command": [sys.executable, str(Path(__file__).with_name("asking_server.py"))],
}
DECLINED = {"action": "decline"}
ACCEPTED = {"action": "accept", "content": {"name": "Ada"}}

pytestmark = pytest.mark.rows("F-41")


async def told(*tools: str, **options: Any) -> list[Any]:
    """What the server was answered in calls of `tools`."""
    calls: list[Call] = [(f"asking__{tool}", {}) for tool in tools]
    return [json.loads(text) for text in await results(agent_of(ASKING), *calls, **options)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (True, ACCEPTED),
        (False, DECLINED),
        (Decision(outcome="reject", feedback="no"), DECLINED),
        (
            Decision(outcome="revise", partial={"answer": {"name": "Bob", "age": "7"}}),
            {"action": "accept", "content": {"name": "Bob", "age": 7}},
        ),
        (Decision(outcome="revise", partial={"answer": {"age": 7}}), DECLINED),
        (Decision(outcome="revise", partial={"answer": "Bob"}), DECLINED),
        (Decision(outcome="revise", partial={"answer": {"name": "Bob", "pin": 1}}), DECLINED),
    ],
)
async def test_the_approval_callback_answers(answer: Any, expected: Any) -> None:
    asked = []

    def decide(name: str, arguments: dict[str, Any]) -> Any:
        asked.append((name, arguments))
        return answer

    assert await told("ask", approval_callback=decide) == [expected]
    question = {"server": "asking", "tool": "asking__ask", "message": "Who?"}
    assert asked == [("mcp_elicitation", {**question, "answer": {"name": "Ada"}})]


@pytest.mark.parametrize("auto_approve", [False, True])
async def test_where_nobody_is_asked_it_is_declined_at_once(auto_approve: bool) -> None:
    agent = agent_of(ASKING, auto_approve=auto_approve)
    assert await results(agent, ("asking__ask", {})) == [json.dumps(DECLINED)]


async def test_a_callback_that_fails_declines() -> None:
    def fail(_name: str, _arguments: dict[str, Any]) -> bool:
        raise OSError("no terminal")

    assert await told("ask", approval_callback=fail) == [DECLINED]


async def test_an_invalid_form_and_an_address_to_visit_harm_nothing() -> None:
    answers = await told("odd", "visit", "ask", approval_callback=lambda *_: True)
    assert answers == [{"action": "accept", "content": {}}, DECLINED, ACCEPTED]


async def test_a_question_after_its_call_is_declined_and_nobody_is_asked() -> None:
    asked: list[str] = []

    def approve(name: str, _arguments: dict[str, Any]) -> bool:
        asked.append(name)
        return True

    answers = await told("late", "heard", approval_callback=approve)
    assert answers == ["later", "decline"]
    assert not asked


async def test_a_server_that_asks_without_end_is_declined() -> None:
    (actions,) = await told("often", approval_callback=lambda *_: True)
    assert actions == ["accept"] * 10 + ["decline"] * 2


async def test_a_server_that_dies_while_a_person_is_asked_costs_one_result() -> None:
    gone = asyncio.Event()

    async def wait_for_the_end(_name: str, _arguments: dict[str, Any]) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return True

    first, second = await results(
        agent_of(ASKING),
        ("asking__die", {}),
        ("asking__late", {}),
        approval_callback=wait_for_the_end,
    )
    assert "ended during the call, which may have had its effect" in first
    assert second == '"later"'
    assert gone.is_set()


async def test_a_run_that_is_cancelled_while_a_person_is_asked_ends() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def wait_for_the_end(_name: str, _arguments: dict[str, Any]) -> bool:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return True

    model = script_of([("asking__unheard", {})])
    agent = agent_of(ASKING)
    async with Session(agent, client=model) as session:
        session.approval_callback = wait_for_the_end
        run = asyncio.create_task(session.run("Go."))
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            session.cancel()
            result = await run
    assert result.status == "cancelled"
    assert gone.is_set()


async def test_the_time_of_a_call_stands_still_while_a_person_is_asked() -> None:
    clock = PausableTimeout(100.0)
    async with clock.limit:
        before = clock.limit.when()
        with clock.paused():
            assert clock.limit.when() is None
            with clock.paused():
                pass
            assert clock.limit.when() is None
        after = clock.limit.when()
    assert before is not None
    assert after is not None
    assert after >= before


def asking_team(**options: Any) -> Runtime:
    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[define_specialist("worker", model=MODEL, prompt="W.")],
        mcp_servers=[ASKING],
        providers=PROVIDERS,
        backend=LocalBackend(isolation="none"),
    )
    return create_runtime(spec, interpreter="scripted", **options)


@pytest.mark.parametrize(
    ("outcome", "partial", "expected"),
    [
        ("approve", None, ACCEPTED),
        ("reject", None, DECLINED),
        (
            "revise",
            {"answer": {"name": "Bob"}},
            {"action": "accept", "content": {"name": "Bob"}},
        ),
    ],
)
async def test_in_a_runtime_it_waits_in_the_store_of_approvals(
    outcome: Any, partial: Any, expected: Any
) -> None:
    seen = []
    async with asking_team() as runtime, asyncio.timeout(PATIENCE):
        async for event in runtime.run_specialist("worker", script(call("asking__ask"))):
            seen.append(event)
            if event["type"] == "approval-required":
                assert event["data"]["target"] == "mcp_elicitation"
                assert event["data"]["payload"]["message"] == "Who?"
                (waiting,) = await runtime.approvals()
                await runtime.respond_to_approval(waiting.id, outcome, partial=partial)
        (answered,) = await runtime.approvals(status="answered")
    assert list(map(json.loads, results_of(seen))) == [expected]
    assert answered.decision is not None
    kinds = [event["type"] for event in seen if "approval" in event["type"]]
    assert kinds == ["approval-required", "approval-decision"]


async def test_it_is_answered_on_the_command_line(tmp_path: Path) -> None:
    """Other calls of tools cannot be revised there."""
    where = f"sqlite:{tmp_path / 'team.db'}"
    revised = tmp_path / "answer.json"
    revised.write_text('{"answer": {"name": "Bob"}}')
    seen = []
    async with asking_team(store=where) as runtime, asyncio.timeout(PATIENCE):
        async for event in runtime.run_specialist("worker", script(call("asking__ask"))):
            seen.append(event)
            if event["type"] == "approval-required":
                answer = ["approvals", "answer", event["data"]["id"], "--revise", str(revised)]
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "paddock", *answer, "--store", where)
                )
                assert await process.wait() == 0
    accepted = {"action": "accept", "content": {"name": "Bob"}}
    assert list(map(json.loads, results_of(seen))) == [accepted]


async def test_a_question_does_not_outlive_its_run() -> None:
    async with asking_team() as runtime, asyncio.timeout(PATIENCE):
        stream = runtime.run_specialist("worker", script(call("asking__unheard")))
        async for event in stream:
            if event["type"] == "approval-required":
                break
        await stream.aclose()
        assert not await runtime.approvals()
