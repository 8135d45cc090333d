"""What a run, and an agent in it, may use up."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    ModelResponse,
    ScriptedModel,
    Usage,
    create_runtime,
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
)
from paddock.runtime.orchestration.store import TenantStore
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PROVIDERS,
    call,
    echo_tool,
    of_type,
    read,
    results,
    script,
)
from tests.unit.runtime.orchestration.test_resumed_runs import left_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from paddock import ModelEvent, ModelRequest, Runtime, RuntimeSpec

ECHOES = script(*(call("echo", value=f"{at}") for at in range(5)))
CALLS_WORKER = script(call("call_agent", agent="worker", prompt=ECHOES))


def team(*, lead: Any = None, worker: Any = None, tools: Any = None, **fields: Any) -> RuntimeSpec:
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="x", routes=["worker"], **lead or {}),
            define_specialist(
                "worker", model=MODEL, prompt="x", tools=tools or [echo_tool()], **worker or {}
            ),
        ],
        providers=PROVIDERS,
        **fields,
    )


async def queried(spec: RuntimeSpec, prompt: str = CALLS_WORKER, **options: Any) -> Any:
    runtime = create_runtime(spec, interpreter="scripted")
    return await read(runtime.query(prompt, thread_id="t", **options))


def reason(events: Any) -> str:
    (finish,) = of_type(events, "finish")
    assert not of_type(events, "error")
    assert events[-1]["type"] == "tool-agent"
    return str(finish["finishReason"])


@pytest.mark.rows("F-40")
@pytest.mark.parametrize(
    ("of_runtime", "of_query"),
    [({"turns": 3}, None), ({}, {"turns": 3}), ({"turns": 3}, {"turns": 9})],
)
async def test_a_run_that_meets_its_limit_ends_as_cut_short(of_runtime: Any, of_query: Any) -> None:
    events = await queried(team(limits=of_runtime), limits=of_query)
    assert reason(events) == "length"
    *echoes, called = results(events)
    assert echoes == [{"echo": "0"}, {"echo": "1"}]
    assert "worker" in called["error"]


@pytest.mark.rows("F-40")
async def test_limits_of_create_runtime_replace_those_of_the_spec() -> None:
    spec = team(limits={"turns": 1})
    runtime = create_runtime(spec, interpreter="scripted", limits={"turns": 30})
    assert reason(await read(runtime.query(CALLS_WORKER, thread_id="t"))) == "stop"


@pytest.mark.rows("F-40")
async def test_limits_are_those_of_each_run() -> None:
    runtime = create_runtime(team(limits={"turns": 7}), interpreter="scripted")
    for thread in "ab":
        assert reason(await read(runtime.query(CALLS_WORKER, thread_id=thread))) == "length"
        assert reason(await read(runtime.query("Hello.", thread_id=thread))) == "stop"


@pytest.mark.rows("F-5", "F-40")
@pytest.mark.parametrize("worker", [{"limits": {"turns": 2}}, {"max_turns": 2}])
async def test_an_agent_that_meets_its_limit_is_an_error_for_its_caller(worker: Any) -> None:
    twice = script(*(call("call_agent", agent="worker", prompt=ECHOES) for _ in range(2)))
    events = await queried(team(worker=worker), twice)
    assert reason(events) == "stop"
    errors = [each["error"] for each in results(events) if "error" in each]
    assert len(errors) == 2  # each call of the agent is a run of its own
    assert all("worker" in error for error in errors)
    assert len(results(events)) == 6


@pytest.mark.rows("F-5", "F-40")
async def test_the_turns_of_an_agent_are_its_own_and_its_limit_counts_those_below() -> None:
    assert reason(await queried(team(lead={"max_turns": 3}))) == "stop"
    assert reason(await queried(team(lead={"max_turns": 1}))) == "length"
    assert reason(await queried(team(lead={"limits": {"turns": 3}}))) == "length"


@pytest.mark.rows("F-40")
@pytest.mark.parametrize("limit", [{"usd": 0.5}, {"tokens": 5}])
async def test_tokens_and_dollars_are_known_when_a_call_has_ended(limit: Any) -> None:
    echo = {"tool_calls": [{"name": "echo", "arguments": {"value": "x"}}]}
    usage = {"input_tokens": 6, "output_tokens": 4, "cost_usd": 1.0}
    model = ScriptedModel([{**echo, "usage": usage} for _ in range(3)])
    runtime = create_runtime(team(), interpreter=model)
    events = await read(runtime.run_specialist("worker", "Echo.", limits=limit))
    assert reason(events) == "length"
    assert results(events) == [{"echo": "x"}]


class Unpriced(ScriptedModel):
    """Uses a million tokens, and does not know what they cost."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        async for event in super().stream(request):
            if isinstance(event, ModelResponse):
                usage = Usage(input_tokens=1_000_000)
                yield dataclasses.replace(event, usage=usage, is_priced=False)
            else:
                yield event


@pytest.mark.rows("F-40")
@pytest.mark.parametrize(
    ("prices", "last"),
    [(None, "error"), ({"mine": {"input": 3, "output": 0}}, "finish")],
)
async def test_dollars_are_counted_by_the_prices_of_the_provider(prices: Any, last: str) -> None:
    worker = define_specialist("worker", model="local/mine", prompt="x", tools=[echo_tool()])
    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[worker],
        providers={"local": {"baseUrl": "http://localhost:1/v1", "prices": prices}},
    )
    echo = {"tool_calls": [{"name": "echo", "arguments": {"value": "x"}}]}
    runtime = create_runtime(spec, interpreter=Unpriced([echo, echo]))
    events = await read(runtime.run_specialist("worker", "Echo.", limits={"usd": 2}))
    (ended,) = [event for event in events if event["type"] in ("error", "finish")]
    assert ended["type"] == last
    assert "prices" in str(ended) or ended["finishReason"] == "length"


class Hanging:
    """A model that never answers."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await asyncio.Event().wait()
        yield  # type: ignore[misc]

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.rows("F-40")
async def test_time_ends_what_is_going_on() -> None:
    runtime = create_runtime(team(), interpreter=Hanging())
    events = await read(runtime.query("Hello.", thread_id="t", limits={"seconds": 0.05}))
    assert reason(events) == "length"


@pytest.mark.rows("F-40")
@pytest.mark.parametrize("limits", [{"dollars": 1}, {"turns": -1}, {"turns": "many"}])
def test_limits_that_are_none_are_refused(limits: Any) -> None:
    runtime = create_runtime(team())
    with pytest.raises(ValueError, match=r"dollars|turns"):
        runtime.query("Hello.", thread_id="t", limits=limits)


TO_SEND = [call("look", value="a"), call("send", value="b")]
THEN = [call("look", value=value) for value in "cde"]


@pytest.mark.rows("F-40", "F-18")
@pytest.mark.parametrize(
    ("of_query", "of_worker", "nested"),
    [
        ({"turns": 3}, {}, False),
        ({"turns": 4}, {}, True),
        (None, {"limits": {"turns": 3}}, False),
        (None, {"limits": {"turns": 3}}, True),
        (None, {"max_turns": 3}, False),
        (None, {"max_turns": 3}, True),
    ],
)
async def test_a_run_that_is_continued_has_used_what_it_used_before(
    tmp_path: Path, of_query: Any, of_worker: Any, nested: bool
) -> None:
    tools = [echo_tool("look"), echo_tool("send", approval="always")]
    spec = team(worker=of_worker, tools=tools)

    def reopened() -> Runtime:
        return create_runtime(spec, interpreter="scripted", store=f"sqlite:{tmp_path / 'team.db'}")

    prompt = script(*TO_SEND, *THEN)
    if nested:
        prompt = script(call("call_agent", agent="worker", prompt=prompt))
        stream = reopened().query(prompt, "t", limits=of_query)
    else:
        stream = reopened().run_specialist("worker", prompt, "t", limits=of_query)
    approval, _ = await left_waiting(stream)
    other = reopened()
    await other.respond_to_approval(approval, "approve")
    events = await read(other.query(None, "t", resume=stream.run_id))
    echoed = [each["echo"] for each in results(events) if "echo" in each]
    assert echoed == ["b", "c"]
    if nested and of_query is None:
        assert "worker" in results(events)[-1]["error"]
    else:
        assert reason(events) == "length"


@pytest.mark.rows("F-40")
async def test_new_limits_replace_those_of_the_run_that_is_continued(tmp_path: Path) -> None:
    spec = team(tools=[echo_tool("send", approval="always")])
    runtime = create_runtime(spec, interpreter="scripted")
    stream = runtime.run_specialist("worker", script(TO_SEND[1]), "t", limits={"turns": 1})
    approval, _ = await left_waiting(stream)
    await runtime.respond_to_approval(approval, "approve")
    again = runtime.query(None, "t", resume=stream.run_id, limits={"turns": 2})
    assert reason(await read(again)) == "stop"


@pytest.mark.rows("F-40")
async def test_the_time_that_a_run_took_is_kept_and_counts_when_it_is_continued() -> None:
    spec = team(tools=[echo_tool("send", approval="always")])
    runtime = create_runtime(spec, interpreter="scripted", store=(kept := MemoryRuntimeStore()))
    stream = runtime.run_specialist("worker", script(TO_SEND[1]), "t", limits={"seconds": 1000})
    approval, _ = await left_waiting(stream)
    await runtime.respond_to_approval(approval, "approve")
    runs = TenantStore(kept, "acme").runs
    (run,) = await runs.list()
    assert 0 < run.seconds < 1000
    await runs.change(run.run_id, lambda known: known and dataclasses.replace(known, seconds=2000))
    assert reason(await read(runtime.query(None, "t", resume=stream.run_id))) == "length"


@pytest.mark.rows("F-40", "F-36")
@pytest.mark.parametrize("limits", ["of the run", "of the agent"])
async def test_time_that_is_over_while_an_approval_waits_ends_the_run(limits: str) -> None:
    short = {"seconds": 0.05}
    tools = [echo_tool("send", approval="always")]
    spec = team(tools=tools, worker={"limits": short} if limits == "of the agent" else {})
    runtime = create_runtime(spec, interpreter="scripted")
    prompt = script(call("call_agent", agent="worker", prompt=script(TO_SEND[1])))
    given = short if limits == "of the run" else None
    events = await read(runtime.query(prompt, "t", limits=given))
    assert reason(events) == ("stop" if given is None else "length")
    (run,) = await runtime.runs()
    assert run.status == "finished"
    assert await runtime.approvals() == []
