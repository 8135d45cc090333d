"""The programs of the multi-agent runtime's document; see `programs`.

Those of ``data_environment`` and of MCP are not among them.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import pytest

import paddock as package
from tests.e2e.documents.programs import cut, names_imported, printed

if TYPE_CHECKING:
    from paddock import ModelRequest
    from tests.e2e.conftest import Paddock

DOCUMENT = "multi-agent-runtime.txt"
ANSWER = "hello from the Rust runtime"

TEAM = """
from paddock import define_coordinator, define_executor, define_plan, define_planner
from paddock import define_reference, define_specialist, define_tool

@define_tool("average_price", {"kind": str}, approval="always")
async def average_price(args, ctx):
    assert ctx.product_catalog is ctx["product_catalog"] is ctx.services["product_catalog"]
    return ctx.product_catalog[args["kind"]]

ProductSet = define_reference("ProductSet", {"ids": list[str]}, glimpse=len)
Scenario = define_plan("Scenario", {"actions": list[dict]})
coordinator = define_coordinator(
    "coordinator", model="claude-x", prompt="Lead.", routes=["planner", "product_insights"]
)
planner = define_planner("planner", model="claude-x", prompt="Plan.", plan=Scenario)
executor = define_executor("executor", model="claude-x", prompt="Act.", plan=Scenario)
specialist = define_specialist(
    "product_insights", model="claude-x", prompt="Answer.", tools=[average_price]
)
"""


def first_program() -> str:
    program = cut(DOCUMENT, "import asyncio", "asyncio.run(main())")
    before, tenant, after = program.partition('tenant = define_tenant("acme", "v1")')
    return f"{before}{TEAM}{tenant}{after}"


def inside(*fragments: str) -> str:
    """The first program up to its runtime, and then a coroutine of `fragments`.

    Its models are served where the environment says.
    """
    setting, _, _ = first_program().partition("runtime: Runtime")
    setting = setting.replace(
        '{"apiKeyEnv": "ANTHROPIC_API_KEY"}',
        '{"apiKeyEnv": "OPENAI_API_KEY", "baseUrl": __import__("os").environ["OPENAI_BASE_URL"]}',
    )
    body = "\n".join(fragments).replace("\n", "\n    ")
    return f"{setting}\nasync def main():\n    {body}\nasyncio.run(main())\n"


@pytest.mark.rows("F-2", "F-14", "F-18")
async def test_the_first_program_streams_the_mock(paddock: Paddock) -> None:
    output = await printed(first_program(), [], paddock)
    events = [ast.literal_eval(line) for line in output.splitlines()]
    assert {"type": "text", "text": ANSWER} in events


@pytest.mark.rows("F-16", "F-22")
async def test_services_and_references(paddock: Paddock) -> None:
    program = inside(
        "product_catalog_client = {}",
        cut(DOCUMENT, "runtime = create_runtime(", ")", number=2),
        'payload = {"ids": ["a", "b"]}',
        cut(DOCUMENT, "ref = await", "glimpse = await"),
        "print(payload, glimpse)",
    )
    assert await printed(program, [], paddock) == "{'ids': ['a', 'b']} 1\n"


def answered(request: ModelRequest) -> dict[str, Any]:
    """The first turn of the coordinator, and of the specialist."""
    if request.messages[0]["content"] == "Lead.":
        return {"text": "Here is a scenario."}
    return {"tool_calls": [{"name": "average_price", "arguments": {"kind": "enterprise"}}]}


@pytest.mark.rows("F-18", "F-19", "F-23", "F-24")
async def test_a_query_a_specialist_and_an_answer_to_its_approval(paddock: Paddock) -> None:
    model = cut(DOCUMENT, "runtime = create_runtime(", ")", number=0)
    answer = cut(DOCUMENT, "await runtime.respond_to_approval(", ")")
    program = inside(
        model.replace("\n)", '\n    services={"product_catalog": {"enterprise": 12}},\n)'),
        cut(DOCUMENT, "async for event in runtime.query(", "    print(event)"),
        cut(DOCUMENT, "async for event in runtime.run_specialist(", "    print(event)"),
        "    if event['type'] == 'approval-required':",
        "        approval_id = event['data']['id']",
        *(f"        {line}" for line in answer.splitlines()),
    )
    output = await printed(program, [answered, {"text": "It is 12."}], paddock)
    events = [ast.literal_eval(line) for line in output.splitlines()]
    texts = [event["text"] for event in events if event["type"] == "text"]
    assert "".join(texts) == "Here is a scenario.It is 12."
    (decision,) = [event["data"] for event in events if event["type"] == "approval-decision"]
    assert decision["feedback"] == "Approved by the host application."
    assert [event["result"] for event in events if "result" in event] == [12]


def test_every_name_that_it_imports_is_there() -> None:
    for name in names_imported(DOCUMENT):
        if name != "mcp":
            assert hasattr(package, name), name
