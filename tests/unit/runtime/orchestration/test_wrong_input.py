"""What a program gives wrongly is refused where it gives it, by an error that names it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    AgentSpec,
    ReferenceSpec,
    RuntimeSpec,
    SessionError,
    ToolSpec,
    create_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    call,
    echo_tool,
    of_type,
    read,
    results,
    script,
    team,
)
from tests.unit.runtime.orchestration.test_plan_flow import carried_out, stock_team

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.rows("F-1")
def test_a_tenant_that_is_given_whole_has_its_version() -> None:
    with pytest.raises(TypeError, match="version"):
        define_tenant(define_tenant("acme", "v1"), "v2")


@pytest.mark.rows("F-5")
@pytest.mark.parametrize("tools", [3, echo_tool()])
def test_tools_of_an_agent_are_a_list(tools: Any) -> None:
    with pytest.raises(TypeError, match="list of ToolSpecs"):
        define_specialist("worker", model=MODEL, prompt="x", tools=tools)


@pytest.mark.rows("F-5")
def test_no_tools_are_no_tools() -> None:
    tools: Any = None
    assert define_specialist("worker", model=MODEL, prompt="x", tools=tools).tools == ()


@pytest.mark.rows("F-8")
@pytest.mark.parametrize("handler", [None, 3, "refund"])
def test_a_handler_is_a_function(handler: Any) -> None:
    tool = define_tool("refund", {})
    with pytest.raises(TypeError, match="refund"):
        tool.bind(handler)
    with pytest.raises(TypeError, match="refund"):
        tool(handler)


@pytest.mark.rows("F-13")
@pytest.mark.parametrize(
    ("policies", "plans", "tools"),
    [("always", "always", "always"), ({"tools": "default", "plans": "never"}, "never", None)],
)
def test_rules_of_a_runtime_are_written_like_those_of_an_agent(
    policies: Any, plans: str, tools: str | None
) -> None:
    rules = team(approval_policies=policies).approval_policies
    assert rules is not None
    assert (rules.plans, rules.tools) == (plans, tools)


@pytest.mark.rows("F-6")
@pytest.mark.parametrize("model", [ToolSpec, ReferenceSpec, AgentSpec, RuntimeSpec])
def test_specs_have_a_json_schema_of_what_a_dump_has(model: Any) -> None:
    assert model.model_json_schema()["title"] == model.__name__
    tool = ToolSpec.model_json_schema()["properties"]
    assert tool.keys() == define_tool("x", {}).model_dump(by_alias=True).keys()


@pytest.mark.rows("F-14", "F-20", "F-25", "F-36")
@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"store": 3}, TypeError),
        ({"action_dispatcher": 3}, TypeError),
        ({"approval_predicates": ["x"]}, TypeError),
        ({"event_hooks": 3}, TypeError),
        ({"approval_ttl": "soon"}, TypeError),
        ({"approval_ttl": True}, TypeError),
        ({"approval_ttl": -1}, ValueError),
        ({"approval_ttl": float("nan")}, ValueError),
        ({"approval_ttl": 1e300}, ValueError),
    ],
)
def test_a_runtime_names_the_argument_that_it_cannot_use(given: Any, error: Any) -> None:
    (name,) = given
    with pytest.raises(error, match=name):
        create_runtime(team(), **given)


@pytest.mark.rows("F-19")
def test_an_empty_thread_is_refused() -> None:
    with pytest.raises(ValueError, match="thread_id"):
        create_runtime(team()).run_specialist("worker", "Work.", "")


@pytest.mark.rows("F-36")
async def test_approvals_are_listed_by_a_status_that_there_is() -> None:
    wrong: Any = "answerd"
    with pytest.raises(ValueError, match="answered"):
        await create_runtime(team()).approvals(wrong)


@pytest.mark.rows("F-14")
async def test_a_runtime_that_was_closed_is_not_entered_again() -> None:
    runtime = create_runtime(team())
    await runtime.aclose()
    with pytest.raises(SessionError, match="closed"):
        await runtime.__aenter__()


@pytest.mark.rows("F-18")
@pytest.mark.parametrize("thread", ["a/../b", "\0", "\udc80", "ü" * 5000])
async def test_a_thread_may_have_any_name(thread: str) -> None:
    runtime = create_runtime(team(), interpreter="scripted")
    for _ in range(2):
        assert of_type(await read(runtime.query("Hello.", thread)), "finish")


@pytest.mark.rows("F-17")
@pytest.mark.parametrize("phase", [(object(), 1, 2), ("x", "1", 2), ("x", 1, None), ("x", 1, True)])
async def test_progress_that_no_event_can_hold_is_an_error_of_the_tool(phase: Any) -> None:
    async def work(args: Any, ctx: Any) -> None:
        await ctx.progress(*phase)

    runtime = create_runtime(team(define_tool("work", {})(work)), interpreter="scripted")
    events = await read(runtime.run_specialist("worker", script(call("work"))))
    assert not of_type(events, "tool-progress")
    (result,) = results(events)
    assert result["error"].startswith("TypeError: progress")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("this has no text")


def _raises(error: BaseException) -> Callable[..., Any]:
    def raises(*_args: Any) -> Any:
        raise error

    return raises


async def _cancels_itself(*_args: Any) -> Any:
    raise asyncio.CancelledError


@pytest.mark.rows("F-17")
async def test_an_error_without_a_text_is_the_result_by_its_kind() -> None:
    tool = define_tool("work", {})(_raises(Unspeakable()))
    runtime = create_runtime(team(tool), interpreter="scripted")
    events = await read(runtime.run_specialist("worker", script(call("work"))))
    assert results(events) == [{"error": "Unspeakable"}]


@pytest.mark.rows("F-24", "F-21")
async def test_a_script_continues_after_any_number_of_refused_calls() -> None:
    calls = [call("echo", value=str(at)) for at in range(10)]
    runtime = create_runtime(team(echo_tool(approval="always")), interpreter="scripted")
    stream, events = runtime.run_specialist("worker", script(*calls)), []
    async for event in stream:
        events.append(event)
        if event["type"] == "approval-required":
            await runtime.respond_to_approval(event["data"]["id"], "reject")
    assert results(events) == [{"error": "rejected", "retry": False}] * 10


@pytest.mark.rows("F-28", "F-29")
@pytest.mark.parametrize("dispatcher", [_raises(Unspeakable()), _cancels_itself])
async def test_a_dispatcher_that_fails_in_any_way_fails_the_plan_in_the_stream(
    dispatcher: Any,
) -> None:
    events = await carried_out(
        create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher),
        "approve",
    )
    assert of_type(events, "plan-status-change")[-1]["data"]["to"] == "failed"
    assert "dispatcher failed" in str(results(events)[-1])
