"""The specs of tools, plans and references, and the tools that agents have by them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from paddock import (
    AgentSpec,
    PlanDisplayAlias,
    ReferenceSpec,
    ToolSpec,
    define_executor,
    define_plan,
    define_planner,
    define_reference,
    define_runtime,
    define_tool,
)
from tests.unit.runtime.orchestration.specs import (
    PLAN,
    TENANT,
    Order,
    coordinator,
    specialist,
)


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
