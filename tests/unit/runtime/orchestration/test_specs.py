"""The specs of a multi-agent runtime: what they take, dump and refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from paddock import (
    AgentSpec,
    DockerBackend,
    ModelSpec,
    PlanSpec,
    RuntimeSpec,
    define_coordinator,
    define_executor,
    define_planner,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
    layered_prompt,
)
from tests.unit.runtime.orchestration.specs import (
    PLAN,
    TENANT,
    coordinator,
    plan,
    specialist,
    team,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.rows("F-1")
def test_a_tenant_is_given_in_four_ways_and_dumps_camel_case() -> None:
    tenants = (
        define_tenant(resource_id="acme", version="v1"),
        define_tenant({"resourceId": "acme", "version": "v1"}),
        define_tenant({"resource_id": "acme", "version": "v1"}),
        define_tenant(TENANT),
    )
    assert {*tenants} == {TENANT}
    assert TENANT.model_dump(by_alias=True, mode="json") == {"resourceId": "acme", "version": "v1"}
    assert TENANT.model_dump() == {"resourceId": "acme", "version": "v1"}


@pytest.mark.rows("F-1")
@pytest.mark.parametrize(
    "given",
    [
        {"resource_id": "", "version": "v1"},
        {"resource_id": " ", "version": "v1"},
        {"resource_id": "acme", "version": ""},
        {"resource_id": "acme"},
        {"resource_id": "acme", "version": "v1", "region": "eu"},
    ],
)
def test_a_tenant_is_refused_that_is_empty_or_has_more(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        define_tenant(given)


@pytest.mark.rows("F-1")
def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TENANT.version = "v2"
    with pytest.raises(ValidationError, match="frozen"):
        team().agents = ()


@pytest.mark.rows("F-1", "F-2", "F-6")
def test_a_runtime_comes_back_from_its_dump_in_either_spelling() -> None:
    spec = team()
    dumped = spec.model_dump(by_alias=True)
    assert dumped["approvalPolicies"] is None
    assert dumped["agents"][0]["systemPrompt"] == "Lead."
    assert RuntimeSpec.model_validate(dumped) == spec
    assert RuntimeSpec.model_validate_json(spec.model_dump_json()) == spec
    assert RuntimeSpec.model_validate(spec.model_dump(by_alias=False)) == spec
    assert RuntimeSpec.model_validate(dumped) != team(limits={"usd": 2})


@pytest.mark.rows("F-6")
def test_what_can_be_called_is_in_no_dump() -> None:
    def ask(args: Any, ctx: Any) -> bool:
        return True

    tool = define_tool("price", {"sku": str}, approval=ask).bind(lambda args, ctx: 1)
    spec = team(agents=[specialist(tools=[tool])])
    dumped = spec.model_dump(by_alias=True, mode="json")
    (kept,) = dumped["agents"][0]["tools"]
    assert kept == {
        "name": "price", "description": "", "inputSchema": tool.input_schema,
        "outputSchema": None, "bindingId": None,
        "approval": {"kind": "dynamic", "value": "price_approval"},
    }  # fmt: skip
    assert "glimpse" not in dumped["references"][0]
    again = RuntimeSpec.model_validate(dumped)
    assert again == spec
    assert again.agents[0].tools[0].handler is None


@pytest.mark.rows("F-6")
def test_an_agent_can_be_made_without_a_function() -> None:
    agent = AgentSpec(
        name="lead", role="coordinator", model="claude-x", system_prompt="Lead.", routes=["worker"]
    )
    assert agent.model == ModelSpec("claude-x") == ModelSpec(id="claude-x", provider=None)
    assert agent == define_coordinator(
        "lead", model=ModelSpec("claude-x"), prompt="Lead.", routes=["worker"]
    )
    by_provider = specialist(model={"id": "x", "provider": "anthropic"})
    assert by_provider.model == ModelSpec("x", "anthropic")


@pytest.mark.rows("F-6")
def test_a_dump_names_a_recipe_so_that_no_other_one_is_taken_for_it() -> None:
    spec = team(backend=DockerBackend(image="mine"))
    assert RuntimeSpec.model_validate(spec.model_dump()).backend == "recipe:docker"
    with pytest.raises(ValidationError, match="a recipe such as"):
        team(backend=7)


@pytest.mark.rows("F-2", "F-4")
def test_what_agents_bring_along_belongs_to_the_runtime_once() -> None:
    spec = team(toolkits=[], plans=[PLAN])
    assert spec.plans == (PLAN,)
    agents = [specialist("a", toolkits=["plans"]), specialist("b", toolkits=["plans"])]
    assert [each.id for each in team(agents=agents, toolkits=["references"]).toolkits] == [
        "references",
        "plans",
    ]


@pytest.mark.rows("F-2")
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"mcp_servers": [{"command": ["x"]}]}, "a server needs a name"),
        ({"mcp_servers": [{"name": "a", "command": ["x"]}] * 2}, "MCP server 'a' twice"),
        ({"storage": "x"}, "storage"),
        ({"toolkits": ["plans", "plans"]}, "'plans' twice"),
        ({"approval_policies": {"plans": "maybe"}}, "never"),
        ({"approval_policies": {"plans": {"kind": "dynamic", "value": "x"}}}, "never"),
        ({"limits": {"usd": -1}}, "greater than or equal to 0"),
        ({"sandbox": "run"}, "thread"),
    ],
)
def test_a_runtime_refuses_what_it_does_not_know(fields: dict[str, Any], problem: str) -> None:
    given = {"tenant": TENANT, "agents": [specialist()], **fields}
    with pytest.raises(ValidationError, match=problem):
        RuntimeSpec.model_validate(given)


@pytest.mark.rows("F-3")
@pytest.mark.parametrize(
    ("agents", "problem"),
    [
        ([specialist("a"), specialist("a")], "'a' twice"),
        ([coordinator("b")], "agent 'lead': the route 'b' leads to no agent"),
        ([coordinator("lead")], "agent 'lead': the route 'lead' leads to itself"),
        ([coordinator("a", "a"), specialist("a")], "'lead' has the route 'a' twice"),
        ([coordinator()], "agent 'lead': a coordinator needs at least one route"),
        (
            [
                coordinator("a"),
                define_coordinator("boss", model="m", prompt="x", routes=["a"]),
                specialist("a"),
            ],
            "more than one coordinator: 'lead', 'boss'",
        ),
        ([specialist("a", plan="Lost")], "agent 'a': there is no plan 'Lost'"),
    ],
)
def test_agents_that_do_not_go_together_are_refused_by_name(
    agents: list[AgentSpec], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        define_runtime(TENANT, agents=agents)


@pytest.mark.rows("F-4")
def test_two_different_things_of_one_name_are_refused() -> None:
    def planners(*plans: PlanSpec) -> list[AgentSpec]:
        return [
            define_planner(f"p{at}", model="m", prompt="x", plan=plan)
            for at, plan in enumerate(plans)
        ]

    assert define_runtime(TENANT, agents=planners(plan(), plan())).plans == (plan(),)
    with pytest.raises(ValidationError, match="two different plans have the name 'Order'"):
        define_runtime(TENANT, agents=planners(plan(), plan(why={"type": "string"})))

    tool = define_tool("search", {"query": str})
    one, other = tool.bind(lambda args, ctx: 1), tool.bind(lambda args, ctx: 2)
    agents = [specialist("a", tools=[one]), specialist("b", tools=[one])]
    assert define_runtime(TENANT, agents=agents).agents == tuple(agents)
    with pytest.raises(ValidationError, match="two different tools have the name 'search'"):
        define_runtime(TENANT, agents=[agents[0], specialist("b", tools=[other])])


@pytest.mark.rows("F-5")
@pytest.mark.parametrize(
    ("agent", "stateful"),
    [
        (coordinator("a"), True),
        (coordinator("a", stateful=False), False),
        (define_planner("p", model="m", prompt="x", plan=PLAN), True),
        (define_executor("e", model="m", prompt="x", plan=PLAN), False),
        (specialist(), False),
        (specialist(stateful=True), True),
    ],
)
def test_coordinators_and_planners_remember_unless_told_otherwise(
    agent: AgentSpec, stateful: bool
) -> None:
    assert agent.stateful is stateful


@pytest.mark.rows("F-5")
@pytest.mark.parametrize("define", [define_coordinator, define_planner, define_executor])
def test_a_role_that_needs_more_says_so(define: Callable[..., AgentSpec]) -> None:
    with pytest.raises(TypeError, match=r"routes|plan"):
        define("x", model="m", prompt="x")


@pytest.mark.rows("F-5")
@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a/b"}, {"name": " "}, {"name": "a\n"}, {"max_turns": 0}, {"model": ""},
        {"colour": "red"}, {"role": "boss"}, {"sandbox": "run"},
    ],
)  # fmt: skip
def test_an_agent_refuses_what_it_cannot_be(fields: dict[str, Any]) -> None:
    sound = {"name": "a", "role": "specialist", "model": "m"}
    assert AgentSpec.model_validate(sound).name == "a"
    with pytest.raises(ValidationError):
        AgentSpec.model_validate({**sound, **fields})


@pytest.mark.rows("F-5", "F-12")
def test_a_prompt_is_text_and_a_layered_one_describes_the_agents_tools_once() -> None:
    search = define_tool("search", {"query": str}, "Search products.")
    plain = define_specialist("worker", model="m", prompt="Work.", tools=[search])
    assert plain.system_prompt == "Work."
    layered = layered_prompt(identity="You work.", tools=[search])
    with_more = [search, define_tool("count", {"n": int}, "Count.")]
    text = define_specialist("worker", model="m", prompt=layered, tools=with_more).system_prompt
    assert text.count("Search products.") == 1
    assert "| count | Count. | never |" in text
    assert "count" not in layered.text
