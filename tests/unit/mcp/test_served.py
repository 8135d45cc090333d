"""The tools of a runtime's agent, to the official client, in both eras and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from paddock import create_runtime, mcp
from paddock.runtime.mcp.server import make_server
from paddock.runtime.orchestration.define import (
    define_coordinator,
    define_executor,
    define_plan,
    define_planner,
    define_reference,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from tests.unit.mcp.toolboxes import ERAS, text_of
from tests.unit.runtime.orchestration.teams import PATIENCE, PROVIDERS, echo_tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.orchestration.runtime import Runtime
    from paddock.runtime.orchestration.spec import RuntimeSpec

MODEL = "claude-test"
PLAN = define_plan("prices", {"type": "object", "properties": {"actions": {"type": "array"}}})
BODY = {"actions": [{"kind": "raise", "by": 2}]}


class Person:
    """Accepts or not what a server asks, and remembers it."""

    def __init__(self, *, accepts: bool = True) -> None:
        self.asked: list[str] = []
        self._action: Any = "accept" if accepts else "decline"

    async def __call__(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action=self._action)


def shop(*tools: Any) -> RuntimeSpec:
    """A coordinator that routes to a planner, an executor and a worker with `tools`."""
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator(
                "lead", model=MODEL, prompt="Lead.", routes=["planner", "executor", "worker"]
            ),
            define_planner("planner", model=MODEL, prompt="Plan.", plan=PLAN),
            define_executor("executor", model=MODEL, prompt="Execute.", plan=PLAN),
            define_specialist(
                "worker", model=MODEL, prompt="Work.", tools=tools, toolkits=["references"]
            ),
        ],
        references=[define_reference("row", {"n": int})],
        providers=PROVIDERS,
    )


@contextlib.asynccontextmanager
async def client_of(
    runtime: Runtime, agent: str, era: str, *, agents: bool = False, **options: Any
) -> AsyncIterator[Client]:
    """A client in this process."""
    timeout = options.pop("call_timeout", PATIENCE)
    async with runtime._toolbox(agent, options.pop("thread_id", None), agents) as toolbox:
        server = make_server(toolbox, call_timeout=timeout)
        async with Client(server, mode=era, **options) as client:
            yield client


async def called(client: Client, name: str, **arguments: Any) -> Any:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, text_of(result)
    return json.loads(text_of(result))


@pytest.mark.rows("F-34")
def test_the_tools_of_an_agent_are_listed_without_a_server() -> None:
    runtime = mcp.create_mcp_runtime(tools=[echo_tool()], toolkits=["references"])
    tools = mcp.list_tools(runtime, agent="mcp")
    assert [tool["name"] for tool in tools] == ["echo", "glimpseRef", "resolveRef"]
    assert tools[0].keys() == {"name", "description", "inputSchema"}
    assert tools[0]["description"] == "Say it again."
    assert tools[0]["inputSchema"]["required"] == ["value"]
    assert runtime.list_mcp_tools(agent="mcp") == tools
    assert runtime.spec.tenant.resource_id == "paddock-mcp"


@pytest.mark.rows("F-34")
def test_tools_that_call_agents_are_listed_if_they_are_asked_for() -> None:
    runtime = create_runtime(shop())
    assert mcp.list_tools(runtime, agent="lead") == []
    (tool,) = mcp.list_tools(runtime, agent="lead", expose_agent_tools=True)
    assert tool["name"] == "call_agent"
    with pytest.raises(ValueError, match="no agent 'ghost'; there are lead, planner"):
        mcp.list_tools(runtime, agent="ghost")


@pytest.mark.rows("F-34", "F-41")
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_calls_tools_with_their_context(era: str) -> None:
    @define_tool("work", {"text": str}, "Work.")
    async def work(args: dict[str, Any], ctx: Any) -> dict[str, Any]:
        await ctx.progress("half", 1, 2)
        reference = await ctx.references.create("row", {"n": 3})
        return {"text": args["text"], "unit": ctx.unit, "thread": ctx.thread_id, **reference}

    heard: list[str | None] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    runtime = create_runtime(shop(work), services={"unit": "kg"})
    async with client_of(runtime, "worker", era, thread_id="t-1") as client:
        result = await client.call_tool("work", {"text": "x"}, progress_callback=hear)
        made = json.loads(text_of(result))
        assert (made["text"], made["unit"], made["thread"]) == ("x", "kg", "t-1")
        found = await called(client, "resolveRef", kind=made["kind"], id=made["id"])
        assert found["value"] == {"n": 3}
    assert heard == ["half (1 of 2)"]
    assert await runtime.runs() == []


@pytest.mark.parametrize("era", ERAS)
async def test_arguments_that_do_not_fit_and_handlers_that_raise_are_errors_of_the_tool(
    era: str,
) -> None:
    @define_tool("fail", {"text": str})
    def fail(args: dict[str, Any], ctx: Any) -> None:
        raise RuntimeError("out of paper")

    async with client_of(create_runtime(shop(fail)), "worker", era) as client:
        for arguments, told in (({"txt": 1}, "missing required"), ({"text": "x"}, "out of paper")):
            result = await client.call_tool("fail", arguments)
            assert result.is_error
            assert told in text_of(result)


@pytest.mark.rows("F-34", "F-41")
@pytest.mark.parametrize("era", ERAS)
async def test_a_gated_tool_asks_the_clients_user_or_is_an_error_at_once(era: str) -> None:
    runtime = create_runtime(shop(echo_tool(approval="always")))
    yes, no = Person(), Person(accepts=False)
    async with client_of(runtime, "worker", era, elicitation_callback=yes) as client:
        assert await called(client, "echo", value="a") == {"echo": "a"}
    assert yes.asked == ["worker asks to run the tool 'echo' with\nvalue: a"]
    async with client_of(runtime, "worker", era, elicitation_callback=no) as client:
        result = await client.call_tool("echo", {"value": "a"})
    assert "did not approve" in text_of(result)
    async with client_of(runtime, "worker", era) as client:
        result = await client.call_tool("echo", {"value": "a"})
    assert result.is_error
    assert "cannot ask its user" in text_of(result)


@pytest.mark.parametrize("era", ERAS)
async def test_a_predicate_sees_the_arguments_and_invalid_ones_are_not_asked_about(
    era: str,
) -> None:
    tool = echo_tool(approval=lambda args, ctx: args["value"] == "rm")
    person = Person()
    runtime = create_runtime(shop(tool))
    async with client_of(runtime, "worker", era, elicitation_callback=person) as client:
        assert await called(client, "echo", value="ls") == {"echo": "ls"}
        assert (await client.call_tool("echo", {"valeu": "rm"})).is_error
        assert not person.asked
        assert await called(client, "echo", value="rm") == {"echo": "rm"}
    assert len(person.asked) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_plan_is_shown_to_the_clients_user_and_executed_once(era: str) -> None:
    executed: list[Any] = []

    def dispatch(actions: Any, ctx: Any) -> dict[str, Any]:
        executed.append(actions)
        return {"entitiesAffected": 1}

    runtime = create_runtime(shop(), action_dispatcher=dispatch)
    async with client_of(runtime, "planner", era) as client:
        await called(client, "storePlan", specName="prices", planId="p", body=BODY)
    no, yes = Person(accepts=False), Person()
    async with client_of(runtime, "executor", era, elicitation_callback=no) as client:
        assert (await client.call_tool("executePlan", {"planId": "p"})).is_error
    async with client_of(runtime, "executor", era) as client:
        assert (await client.call_tool("executePlan", {"planId": "p"})).is_error
    assert not executed
    async with client_of(runtime, "executor", era, elicitation_callback=yes) as client:
        await called(client, "executePlan", planId="p")
        assert (await called(client, "getPlan", planId="p"))["status"] == "executed"
    assert len(executed) == 1
    (asked,) = yes.asked
    assert "to execute the plan 'p'" in asked
    assert '"by": 2' in asked


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_nested_agent_asks_for_is_shown_to_the_clients_user(era: str) -> None:
    spec = shop(echo_tool(approval="always"))
    prompt = json.dumps({"tool": "echo", "args": {"value": "deep"}})
    person = Person()
    runtime = create_runtime(spec, interpreter="scripted")
    asking = {"elicitation_callback": person}
    async with client_of(runtime, "lead", era, agents=True, **asking) as client:
        result = await called(client, "call_agent", agent="worker", prompt=prompt)
    assert result["agent"] == "worker"
    assert json.loads(result["response"]) == {"echo": "deep"}
    assert person.asked == ["lead asks to run the tool 'echo' with\nvalue: deep"]
    assert not await runtime.approvals(None)


@pytest.mark.rows("F-34")
@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_takes_too_long_is_an_error_and_its_tool_has_ended(era: str) -> None:
    ended = asyncio.Event()

    @define_tool("slow", {})
    async def slow(args: dict[str, Any], ctx: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with client_of(create_runtime(shop(slow)), "worker", era, call_timeout=0.3) as client:
        result = await client.call_tool("slow", {})
        assert "took longer than 0.3 s" in text_of(result)
        assert ended.is_set()


async def test_calls_run_at_the_same_time() -> None:
    both = asyncio.Barrier(2)

    @define_tool("meet", {})
    async def meet(args: dict[str, Any], ctx: Any) -> str:
        async with asyncio.timeout(PATIENCE):
            await both.wait()
        return "met"

    async with client_of(create_runtime(shop(meet)), "worker", ERAS[0]) as client:
        results = await asyncio.gather(*(client.call_tool("meet", {}) for _ in range(2)))
    assert [text_of(each) for each in results] == ["met", "met"]


@contextlib.asynccontextmanager
async def served(runtime: Runtime, agent: str = "worker", **options: Any) -> AsyncIterator[str]:
    """Serve over HTTP on a free port, and yield the URL."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    options |= {"agent": agent, "port": 0, "on_ready": url.set_result}
    serving = asyncio.create_task(mcp.serve_http(runtime, **options))
    serving.add_done_callback(lambda _: url.cancel())
    try:
        async with asyncio.timeout(PATIENCE):
            yield await asyncio.shield(url)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@pytest.mark.rows("F-34", "F-41")
@pytest.mark.parametrize("era", ERAS)
async def test_both_eras_are_served_on_one_address(era: str) -> None:
    runtime = create_runtime(shop(echo_tool(approval="always"), echo_tool("say")))
    async with (
        served(runtime) as url,
        Client(url, mode=era, elicitation_callback=Person()) as client,
        Client(url, mode=next(each for each in ERAS if each != era)) as other,
    ):
        assert await called(client, "echo", value="a") == {"echo": "a"}
        assert await called(other, "say", value="b") == {"echo": "b"}
        assert client.protocol_version != other.protocol_version


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_that_stops_ends_calls_and_streams_of_its_clients(
    era: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @define_tool("slow", {})
    async def slow(args: dict[str, Any], ctx: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with contextlib.AsyncExitStack() as clients:
        async with served(create_runtime(shop(slow))) as url:
            client = await clients.enter_async_context(Client(url, mode=era))
            call = asyncio.create_task(client.call_tool("slow", {}))
            await asyncio.wait_for(begun.wait(), PATIENCE)
        assert ended.is_set()
        with pytest.raises(MCPError):
            await asyncio.wait_for(call, PATIENCE)
    assert not [each for each in caplog.records if each.levelname in ("ERROR", "CRITICAL")]


@pytest.mark.rows("F-41")
async def test_strange_hosts_and_origins_are_refused_before_anything_is_read() -> None:
    async with served(create_runtime(shop())) as url, httpx.AsyncClient() as web:
        for headers, status in (
            ({"Host": "evil.example.org"}, 421),
            ({"Origin": "https://evil.example.org"}, 403),
        ):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                answer = await web.request(method, url, headers=headers, content=b"{")
                assert answer.status_code == status, method


@pytest.mark.rows("F-41")
async def test_a_listed_page_is_let_in_and_a_token_is_asked_for() -> None:
    options: dict[str, Any] = {
        "allowed_origins": ["https://app.example.org"],
        "token": "a-token-of-some-length",
    }
    page = {"Origin": "https://app.example.org"}
    async with served(create_runtime(shop()), **options) as url, httpx.AsyncClient() as web:
        asks = {**page, "Access-Control-Request-Method": "POST"}
        answer = await web.options(url, headers=asks)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == page["Origin"]
        denied = await web.post(url, headers=page, json={})
        assert denied.status_code == 401
        assert denied.headers["www-authenticate"] == "Bearer"
        token = {"Authorization": "Bearer a-token-of-some-length"}
        accept = {"Accept": "application/json, text/event-stream"}
        hello = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
        answer = await web.post(url, headers={**page, **token, **accept}, json=hello)
        assert answer.status_code == 200
        assert "worker" in answer.text


async def test_another_transport_and_a_port_that_is_taken_are_said() -> None:
    runtime = create_runtime(shop())
    with pytest.raises(ValueError, match="there is 'streamable-http'"):
        await mcp.serve_http(runtime, agent="worker", transport="sse")
    async with served(runtime) as url:
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match=rf"cannot serve on 127\.0\.0\.1, port {port}: .*in use"):
            await mcp.serve_http(runtime, agent="worker", port=port)
