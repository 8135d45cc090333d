"""Which calls of a multi-agent runtime need an approval."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    AgentSpec,
    ProposedCall,
    RuntimeSpec,
    ToolSpec,
    create_runtime,
    define_coordinator,
    define_plan,
    define_runtime,
    define_tenant,
    define_tool,
)
from paddock.runtime.approvals.policies import needs_approval
from paddock.runtime.orchestration.policy import (
    ToolApprovals,
    plan_rule,
    predicates_of,
    tool_rule,
    warn_about_ungated_tools,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAN = define_plan("Order", {"actions": list[str]})
DYNAMIC = {"kind": "dynamic", "value": "mine"}


def silent(name: str = "silent") -> ToolSpec:
    return define_tool(name, {"n": int})


def worker(**fields: Any) -> AgentSpec:
    given = {"name": "worker", "role": "executor", "model": "m", "plan": PLAN, **fields}
    return AgentSpec.model_validate(given)


def team(agent: AgentSpec, *, lead: Any = None, floor: Any = None) -> RuntimeSpec:
    coordinator = define_coordinator(
        "lead", model="m", prompt="x", routes=[agent.name], approval=lead
    )
    return define_runtime(
        define_tenant("acme", "v1"), agents=[coordinator, agent], approval_policies=floor
    )


@pytest.mark.rows("F-13")
@pytest.mark.parametrize(
    ("lead", "floor", "own", "expected"),
    [
        (None, None, None, "always"),
        ({"plans": "never"}, None, None, "never"),
        ({"plans": "never"}, {"plans": "always"}, None, "always"),
        ({"plans": "never"}, {"tools": "never"}, None, "always"),
        (None, {"plans": "never"}, None, "never"),
        (None, {"plans": "never"}, {"plans": "always"}, "always"),
        ({"plans": "always"}, None, {"plans": "never"}, "never"),
        ({"plans": "never"}, None, {"plans": "default"}, "never"),
        ("never", None, "default", "never"),
    ],
)
def test_the_last_rule_for_plans_that_says_something_wins(
    lead: Any, floor: Any, own: Any, expected: str
) -> None:
    agent = worker(approval=own or {})
    assert plan_rule(team(agent, lead=lead, floor=floor), agent) == expected


@pytest.mark.rows("F-13")
@pytest.mark.parametrize(
    ("lead", "floor", "own", "of_agent", "expected"),
    [
        (None, None, None, {}, "never"),
        ({"tools": "always"}, None, None, {}, "always"),
        ({"tools": "always"}, {"tools": "never"}, None, {}, "never"),
        (None, {"tools": "always"}, {"tools": "never"}, {}, "never"),
        (None, {"tools": "never"}, {"tools": "always"}, {}, "always"),
        (None, {"tools": "always"}, {"tools": "default"}, {}, "always"),
        (None, {"tools": "never"}, None, {"getPlan": "always"}, "always"),
    ],
)
def test_the_last_rule_for_a_built_in_tool_that_says_something_wins(
    lead: Any, floor: Any, own: Any, of_agent: dict[str, str], expected: str
) -> None:
    agent = worker(approval=own or {}, tool_approvals=of_agent)
    assert tool_rule(team(agent, lead=lead, floor=floor), agent, "getPlan") == expected


@pytest.mark.rows("F-13")
@pytest.mark.parametrize(
    ("tool", "of_agent", "expected"),
    [
        (silent("t"), {}, "never"),
        (define_tool("t", {"n": int}, approval="always"), {}, "always"),
        (define_tool("t", {"n": int}, approval="always"), {"t": "never"}, "never"),
        (silent("t"), {"t": "always"}, "always"),
    ],
)
@pytest.mark.parametrize("around", ["always", "never"])
def test_a_python_tool_says_never_unless_it_or_its_agent_says_otherwise(
    tool: ToolSpec, of_agent: dict[str, str], expected: str, around: str
) -> None:
    agent = worker(tools=[tool], approval={"tools": around}, tool_approvals=of_agent)
    assert tool_rule(team(agent, floor={"tools": around}), agent, "t") == expected


@pytest.mark.rows("F-13")
def test_executing_a_plan_has_one_gate_unless_its_tool_is_named() -> None:
    agent = worker(approval={"tools": "always", "plans": "always"})
    assert tool_rule(team(agent), agent, "executePlan") == "never"
    named = worker(tool_approvals={"executePlan": "always"})
    assert tool_rule(team(named), named, "executePlan") == "always"


@pytest.mark.rows("F-13")
def test_a_tool_that_says_nothing_under_a_stricter_rule_is_warned_about_once() -> None:
    tools = [silent(), silent("named"), define_tool("open", {"n": int}, approval="never")]
    agent = worker(tools=tools, tool_approvals={"named": "never"})
    other = worker(name="other", tools=tools[:1])
    spec = define_runtime(
        define_tenant("acme", "v1"), agents=[agent, other], approval_policies={"tools": "always"}
    )
    with pytest.warns(UserWarning, match="'silent'") as warned:
        warn_about_ungated_tools(spec)
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about_ungated_tools(team(agent))
        lenient = worker(tools=[silent()], approval={"tools": "never"})
        warn_about_ungated_tools(team(lenient, floor={"tools": "always"}))


@pytest.mark.rows("F-13")
def test_a_runtime_warns_when_it_is_made() -> None:
    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[worker(model="claude-x", tools=[silent().bind(lambda args, ctx: 1)])],
        approval_policies={"tools": "always"},
        providers={"anthropic": {}},
    )
    with pytest.warns(UserWarning, match="'silent' of agent 'worker' runs without") as warned:
        create_runtime(spec)
    assert [each.filename for each in warned] == [__file__]


async def asks(agent: AgentSpec, tool: str, args: Any = None, **predicates: Any) -> bool:
    spec = team(agent)
    policy = ToolApprovals(spec=spec, agent=agent, predicates=predicates_of(spec, predicates))
    call = ProposedCall(tool=tool, args=args or {}, session_id="s")
    return await needs_approval(policy, call)


@pytest.mark.rows("F-25")
async def test_a_predicate_sees_the_arguments_and_what_the_call_is() -> None:
    seen: list[tuple[dict[str, Any], Mapping[str, Any], bool]] = []

    def expensive(args: dict[str, Any], ctx: Mapping[str, Any]) -> bool:
        on_loop = threading.current_thread() is threading.main_thread()
        seen.append((args, dict(ctx), on_loop))
        return bool(args["n"] > 5)

    agent = worker(tools=[define_tool("buy", {"n": int}, approval=expensive)])
    assert not await asks(agent, "buy", {"n": 5})
    assert await asks(agent, "buy", {"n": 6})
    context = {"kind": "tool", "target": "buy", "tenant": "acme", "agent": "worker"}
    assert seen == [({"n": 5}, context, False), ({"n": 6}, context, False)]


@pytest.mark.rows("F-25")
async def test_a_predicate_may_be_async_and_come_with_the_runtime() -> None:
    async def never(args: Any, ctx: Any) -> bool:
        return False

    agent = worker(tools=[define_tool("buy", {"n": int}, approval=DYNAMIC)])
    assert not await asks(agent, "buy", mine=never)


@pytest.mark.rows("F-25")
@pytest.mark.parametrize("answer", [None, 0, "", [], "no"])
async def test_an_answer_that_is_no_bool_asks_for_an_approval(answer: Any) -> None:
    tool = define_tool("buy", {"n": int}, approval=lambda args, ctx: answer)
    assert await asks(worker(tools=[tool]), "buy")


@pytest.mark.rows("F-25")
async def test_a_predicate_that_raises_asks_for_an_approval() -> None:
    def broken(args: Any, ctx: Any) -> bool:
        raise RuntimeError("broken")

    assert await asks(worker(tools=[define_tool("buy", {"n": int}, approval=broken)]), "buy")


@pytest.mark.rows("F-8", "F-15")
@pytest.mark.parametrize(
    ("agent", "given", "problem"),
    [
        (worker(tools=[define_tool("t", {"n": int}, approval=DYNAMIC)]), {}, "tool 't'.*'mine'"),
        (worker(approval={"tools": DYNAMIC}), {}, "agent 'worker': .*'mine'"),
        (worker(tool_approvals={"getPlan": DYNAMIC}), {}, "agent 'worker', tool 'getPlan'"),
        (worker(), {"mine": "x"}, r"approval_predicates\['mine'\] is not a function"),
    ],
)
def test_a_rule_needs_its_predicate(agent: AgentSpec, given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        predicates_of(team(agent), given)


@pytest.mark.rows("F-8")
def test_two_predicates_of_one_id_are_refused_unless_the_runtime_gives_one() -> None:
    def of(answer: bool) -> Any:
        return lambda args, ctx: answer

    tools = [
        define_tool(name, {"n": int}, approval=of(True), binding_id="mine") for name in ("a", "b")
    ]
    with pytest.raises(ValueError, match="'mine'"):
        predicates_of(team(worker(tools=tools)))
    theirs, mine = of(False), tools[0].approval_predicate
    assert predicates_of(team(worker(tools=tools[:1]))) == {"mine": mine}
    assert predicates_of(team(worker(tools=tools[:1])), {"mine": theirs}) == {"mine": theirs}
