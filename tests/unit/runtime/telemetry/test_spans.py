"""A run as OpenTelemetry tells it: which spans, how they nest, what is on them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from paddock.backends.local import LocalBackend
from paddock.runtime.core.context import RunContext  # noqa: TC001 - the fixture looks at signatures
from tests.unit.runtime.conftest import let_run_at_once
from tests.unit.runtime.telemetry.collecting import TURNS, Collected, attributes, look

if TYPE_CHECKING:
    from paddock.runtime.core.model import ModelRequest
    from tests.unit.runtime.conftest import OpenSession


async def test_a_run_is_a_tree_of_spans_by_the_conventions(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session(TURNS, look, config={"model": "gpt-5-mini"})
    await collected.run(session, "Look.")
    assert collected.tree() == [
        ("invoke_agent", None),
        ("chat gpt-5-mini", "invoke_agent"),
        ("execute_tool look", "invoke_agent"),
        ("chat gpt-5-mini", "invoke_agent"),
    ]
    run, chat, tool, _ = collected.spans
    model = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini"}
    assert attributes(run) == model | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.conversation.id": session.id,
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "paddock.usage.cost_usd": 0.0,
        "paddock.team_id": "blue",
        "paddock.project_id": "search",
        "paddock.profile": "readonly",
        "paddock.environment": "counting",
        "paddock.metadata.job_id": "job-123",
        "paddock.metadata.tags": '["a"]',
        "paddock.run_id": 1,
        "paddock.run.status": "completed",
    }
    assert attributes(chat) == model | {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": session.id,
        "gen_ai.response.model": "gpt-5-mini",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "paddock.usage.cost_usd": 0.0,
    }
    assert attributes(tool) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.call.id": attributes(tool)["gen_ai.tool.call.id"],
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.arguments": '{"at": "it"}',
    }
    kinds = [span.kind for span in collected.spans]
    assert kinds[:3] == [trace.SpanKind.INTERNAL, trace.SpanKind.CLIENT, trace.SpanKind.INTERNAL]
    assert {span.status.status_code for span in collected.spans} == {StatusCode.UNSET}


@pytest.mark.parametrize(
    ("model", "provider", "told"),
    [
        ("our-claude", "anthropic", "anthropic"),
        ("claude-behind-a-gateway", "openai", "openai"),
        ("claude-opus-4-5", None, "anthropic"),
        ("gpt-5-mini", None, "openai"),
        ("scripted:a.yaml", "anthropic", "scripted"),
    ],
)
async def test_the_provider_is_the_one_whose_protocol_is_spoken(
    open_session: OpenSession, collected: Collected, model: str, provider: str | None, told: str
) -> None:
    session = open_session([{"text": "Yes."}], config={"model": model, "provider": provider})
    await collected.run(session, "Go.")
    names = {attributes(span)["gen_ai.provider.name"] for span in collected.spans}
    metric = collected.points("gen_ai.client.operation.duration")
    assert names | {point.attributes["gen_ai.provider.name"] for point in metric} == {told}


async def test_tokens_and_durations_are_metrics(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session(TURNS, look, config={"model": "gpt-5-mini"})
    await collected.run(session, "Look.")
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.model": "gpt-5-mini",
    }
    tokens = {
        point.attributes["gen_ai.token.type"]: (point.count, point.sum)
        for point in collected.points("gen_ai.client.token.usage")
    }
    assert tokens == {"input": (2, 30), "output": (2, 12)}
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert (dict(duration.attributes), duration.count) == (told, 2)
    assert duration.explicit_bounds[0] == 0.01


async def test_what_a_tool_does_in_a_sandbox_is_below_its_call(
    open_session: OpenSession, collected: Collected
) -> None:
    async def work(context: RunContext[None], code: str) -> str:
        sandbox = await context.sandbox()
        return str((await sandbox.exec(["sh", "-c", f"exit {code}"])).exit_code)

    backend = LocalBackend(isolation="none", setup=["true"])
    calls = [{"name": "work", "arguments": {"code": code}} for code in ("0", "3")]
    session = open_session(
        [{"tool_calls": calls[:1]}, {"tool_calls": calls[1:]}, {"text": "Done."}],
        work,
        config={"backend": backend, "model": "m"},
    )
    telemetry = collected.observe(session)
    await telemetry.start()
    async with session:
        await session.run("Work.")
    await telemetry.close()
    tree = collected.tree()
    assert tree[2:6] == [
        ("execute_tool work", "invoke_agent"),
        ("provision local", "execute_tool work"),
        ("exec local", "provision local"),
        ("exec local", "execute_tool work"),
    ]
    codes = [
        attributes(span)["process.exit.code"]
        for span in collected.spans
        if span.name == "exec local"
    ]
    assert codes == [0, 0, 3]


async def test_calls_at_once_have_their_own_spans_as_the_current_one(
    open_session: OpenSession, collected: Collected
) -> None:
    both = asyncio.Barrier(2)
    tracer = collected.tracers.get_tracer("somebody else")

    async def meet(name: str) -> str:
        await both.wait()
        with tracer.start_as_current_span(f"inside {name}"):
            await both.wait()
        return "met"

    calls = [{"name": "meet", "arguments": {"name": name}} for name in "ab"]
    session = open_session([{"tool_calls": calls}, {"text": "Met."}], meet)
    let_run_at_once(session)
    await collected.run(session, "Meet.")
    by_id = {span.context.span_id: span for span in collected.spans if span.context}
    for name in "ab":
        inside = collected.span(f"inside {name}")
        assert inside.parent is not None
        above = attributes(by_id[inside.parent.span_id])
        assert above["gen_ai.tool.call.arguments"] == f'{{"name": "{name}"}}'


async def test_a_run_is_below_what_its_caller_does_and_leaves_nothing_in_its_context(
    open_session: OpenSession, collected: Collected
) -> None:
    tracer = collected.tracers.get_tracer("somebody else")

    def think(request: ModelRequest) -> dict[str, Any]:
        tracer.start_span("http").end()
        return {"text": "Hello."}

    session = open_session([think, think])
    telemetry = collected.observe(session)
    await telemetry.start()
    with tracer.start_as_current_span("job") as job:
        for _ in range(2):
            await session.run("Hello?")
            assert trace.get_current_span() is job
    await telemetry.close()
    tree = collected.tree()
    assert tree.count(("invoke_agent", "job")) == 2
    assert tree.count(("http", "chat gpt-5-mini")) == 2


async def test_sessions_side_by_side_do_not_mix(
    open_session: OpenSession, collected: Collected
) -> None:
    sessions = [open_session(TURNS, look) for _ in range(3)]
    observers = [collected.observe(session) for session in sessions]
    for each in observers:
        await each.start()
    await asyncio.gather(*(session.run("Look.") for session in sessions))
    for each in observers:
        await each.close()
    traces: dict[int, list[str]] = {}
    for span in collected.spans:
        assert span.context is not None
        traces.setdefault(span.context.trace_id, []).append(span.name.split()[0])
    assert list(traces.values()) == [["invoke_agent", "chat", "execute_tool", "chat"]] * 3
