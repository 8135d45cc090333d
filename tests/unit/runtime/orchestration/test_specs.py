"""The specs of a multi-agent runtime: what they take, dump and refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ValidationError

from paddock import (
    AgentSpec,
    DockerBackend,
    ModelSpec,
    PlanDisplayAlias,
    PlanSpec,
    ReferenceSpec,
    RuntimeSpec,
    ToolSpec,
    define_coordinator,
    define_executor,
    define_plan,
    define_planner,
    define_reference,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
    layered_prompt,
)

if TYPE_CHECKING:
    from collections.abc import Callable


TENANT = define_tenant("acme", "v1")


class Order(BaseModel):
    why: str
    actions: list[dict[str, Any]]


PLAN = define_plan("Order", Order)


def specialist(name: str = "worker", **fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"name": name, "role": "specialist", "model": "m", **fields})


def coordinator(*routes: str, **fields: Any) -> AgentSpec:
    return define_coordinator("lead", model="m", prompt="Lead.", routes=routes, **fields)


def team(**fields: Any) -> RuntimeSpec:
    search = define_tool("search", {"query": str}, "Search.", output_schema=list[str])
    return define_runtime(
        TENANT,
        **{
            "agents": [
                coordinator("planner", "executor", approval={"plans": "always"}),
                define_planner("planner", model="m", prompt="Plan.", plan=PLAN, tools=[search]),
                define_executor("executor", model="m", prompt="Do.", plan=PLAN, tools=[search]),
            ],
            "references": [define_reference("Skus", list[str], ttl_ms=1000, glimpse=len)],
            "providers": {"openai-compatible": {"apiKeyEnv": "KEY", "baseUrl": "http://x"}},
            "toolkits": [{"id": "plans", "config": {"tools": ["getPlan"]}}],
            "limits": {"usd": 1.5, "turns": 9},
            **fields,
        },
    )


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


def plan(name: str = "Order", **properties: Any) -> PlanSpec:
    schema = {"type": "object", "properties": {"actions": {"type": "array"}, **properties}}
    return define_plan(name, schema)


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


@pytest.mark.rows("F-8")
def test_binding_a_handler_gives_another_tool() -> None:
    tool = define_tool(name="double", input_schema={"n": int})

    def handler(args: dict[str, Any], ctx: Any) -> int:
        return 1

    @tool
    async def double(args: dict[str, Any], ctx: Any) -> int:
        return 2 * int(args["n"])

    assert isinstance(double, ToolSpec)
    assert tool.handler is None
    assert double.handler is not None
    assert tool.bind(handler).handler is handler
    assert double == tool  # as data
    assert tool.approval == "never"


@pytest.mark.rows("F-8")
def test_a_predicate_has_the_id_of_its_binding_or_of_its_tool() -> None:
    def ask(args: Any, ctx: Any) -> bool:
        return True

    def rule(**fields: Any) -> dict[str, str]:
        rule: dict[str, str] = define_tool("t", {"n": int}, **fields).model_dump()["approval"]
        return rule

    assert rule(approval=ask) == {"kind": "dynamic", "value": "t_approval"}
    assert rule(approval=ask, binding_id="mine") == {"kind": "dynamic", "value": "mine"}
    given = {"kind": "dynamic", "value": "theirs"}
    assert rule(approval=given) == given
    assert define_tool("t", {"n": int}, approval=ask).approval_predicate is ask


@pytest.mark.rows("F-8")
@pytest.mark.parametrize(
    "approval", ["sometimes", {"kind": "dynamic"}, {"kind": "static", "value": "x"}, True, 7]
)
def test_a_tool_refuses_another_policy(approval: Any) -> None:
    with pytest.raises(ValueError, match="approval"):
        define_tool("t", {"n": int}, approval=approval)


@pytest.mark.rows("F-8")
@pytest.mark.parametrize("schema", [7, "text", None, {"n": "integer"}, {"type": "number-ish"}])
def test_a_tool_refuses_a_schema_that_cannot_be_read(schema: Any) -> None:
    with pytest.raises(TypeError):
        define_tool("t", schema)
    with pytest.raises(TypeError):
        define_reference("R", schema)
    with pytest.raises(ValidationError):
        ToolSpec(name="t", input_schema=schema)


@pytest.mark.rows("F-8")
@pytest.mark.parametrize("name", ["", "two words", "x" * 65])
def test_a_tool_has_a_name_that_every_service_takes(name: str) -> None:
    with pytest.raises(ValueError, match="the name"):
        define_tool(name, {"n": int})


@pytest.mark.rows("F-8")
@pytest.mark.parametrize("schema", [str, list[int], {"type": "string"}])
def test_the_arguments_of_a_tool_are_an_object(schema: Any) -> None:
    with pytest.raises(ValueError, match="its arguments are an object"):
        define_tool("t", schema)
    assert define_tool("t", {}).input_schema == {}


@pytest.mark.rows("F-9")
def test_the_labels_of_a_plan_are_a_mapping_or_a_list() -> None:
    by_mapping = define_plan("Order", Order, {"draft": "Entwurf", "failed": "Kaputt"})
    by_list = define_plan(
        "Order",
        Order,
        [PlanDisplayAlias("draft", "Entwurf"), {"status": "failed", "alias": "Kaputt"}],
    )
    assert by_mapping == by_list
    assert by_list.display_aliases[0] == PlanDisplayAlias(status="draft", alias="Entwurf")
    assert by_list.schema["required"] == ["why", "actions"]
    with pytest.raises(ValueError, match="'draft', 'approved'"):
        define_plan("Order", Order, {"done": "Fertig"})
    with pytest.raises(ValueError, match="'draft', 'approved'"):
        PlanDisplayAlias("pending_approval", "x")


@pytest.mark.rows("F-9")
def test_a_plan_has_an_array_of_actions_at_its_top() -> None:
    class Nested(BaseModel):
        inner: Order

    class Recursive(BaseModel):
        actions: list[Recursive]

    assert define_plan("P", Recursive).schema["$ref"] == "#/$defs/Recursive"
    assert define_plan("P", {"actions": list[str]}).name == "P"
    for schema in (Nested, {"actions": str}, {"type": "object"}):
        with pytest.raises(ValueError, match="no array 'actions'"):
            define_plan("P", schema)


@pytest.mark.rows("F-9")
def test_a_reference_has_a_schema_a_time_and_a_glimpse() -> None:
    reference = define_reference("Skus", list[str], ttl_ms=500, glimpse=len)
    assert reference.schema == {"type": "array", "items": {"type": "string"}}
    assert reference.glimpse is len
    assert reference.model_dump() == {
        "name": "Skus", "schema": reference.schema, "ttlMs": 500,
    }  # fmt: skip
    assert ReferenceSpec.model_validate(reference.model_dump()) == reference
    with pytest.raises(ValueError, match="ttl_ms"):
        define_reference("Skus", list[str], ttl_ms=-1)


@pytest.mark.rows("F-7", "F-30")
@pytest.mark.parametrize(
    ("agent", "tools"),
    [
        (coordinator("a"), "call_agent"),
        (define_planner("p", model="m", prompt="x", plan=PLAN), "storePlan getPlan"),
        (
            define_executor("e", model="m", prompt="x", plan=PLAN),
            "getPlan executePlan resolveRef glimpseRef",
        ),
        (specialist(), ""),
        (specialist(toolkits=["plans"]), "getPlan"),
        (specialist(toolkits=["references", "plans"]), "getPlan resolveRef glimpseRef"),
        (
            specialist(toolkits=[{"id": "references", "config": {"tools": ["glimpseRef"]}}]),
            "glimpseRef",
        ),
        (
            define_executor(
                "e",
                model="m",
                prompt="x",
                plan=PLAN,
                toolkits=[{"id": "references", "config": {"tools": []}}],
            ),
            "getPlan executePlan",
        ),
        (
            define_planner("p", model="m", prompt="x", plan=PLAN, toolkits=["plans"]),
            "storePlan getPlan",
        ),
        (specialist(routes=["a"]), "call_agent"),
    ],
)
def test_an_agent_has_the_tools_of_its_role_and_its_toolkits(agent: AgentSpec, tools: str) -> None:
    assert " ".join(agent.builtin_tools()) == tools


@pytest.mark.rows("F-30")
def test_a_runtime_narrows_a_toolkit_for_all_its_agents() -> None:
    narrow = {"id": "references", "config": {"tools": ["glimpseRef"]}}
    agent = specialist(toolkits=["references", "plans"])
    spec = define_runtime(TENANT, agents=[agent], toolkits=[narrow])
    assert spec.builtin_tools(agent) == ("getPlan", "glimpseRef")


@pytest.mark.rows("F-7", "F-30")
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tools": [define_tool("getPlan", {"n": int})]}, "'getPlan' is the name of a built-in"),
        ({"tools": [define_tool("call_agent", {"n": int})]}, "agent 'worker': 'call_agent'"),
        ({"toolkits": ["mail"]}, "unknown toolkit 'mail'"),
        ({"tools": [define_tool("execute_query", {"sql": str})]}, "'execute_query' is the name"),
        ({"toolkits": ["plans", "plans"]}, "'plans' twice"),
        ({"toolkits": [{"id": "plans", "config": {"tools": ["x"]}}]}, "has no tool 'x'"),
        ({"toolkits": [{"id": "plans", "config": {"only": ["getPlan"]}}]}, "only"),
        ({"tools": [define_tool("t", {"n": int})] * 2}, "agent 'worker' has the tool 't' twice"),
        ({"tool_approvals": {"t": "always"}}, "tool_approvals names 't'"),
    ],
)
def test_an_agent_refuses_toolkits_and_tools_that_cannot_be(
    fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        specialist(**fields)
