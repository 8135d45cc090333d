"""A run as OpenTelemetry tells it: which spans, how they nest, what is on them."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from paddock import ModelError, ObservabilityConfig
from paddock.backends.local import LocalBackend
from paddock.runtime.core.context import RunContext  # noqa: TC001 - the fixture looks at signatures
from paddock.runtime.core.model import ModelResponse, ModelRetry
from paddock.runtime.telemetry import Capture, OtlpBackend, attach
from tests.unit.runtime.conftest import let_run_at_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from paddock.runtime.core.model import ModelEvent, ModelRequest
    from paddock.runtime.session.session import Session
    from paddock.runtime.telemetry import Observability
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import OpenSession

LOOK = {"name": "look", "arguments": {"at": "it"}}
TURNS = [
    {
        "tool_calls": [LOOK],
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "cached_tokens": 4,
            "cache_write_tokens": 2,
        },
    },
    {"text": "Seen.", "usage": {"input_tokens": 20, "output_tokens": 7, "reasoning_tokens": 3}},
]


class Collected:
    """Providers of a user who has their own, and what came to them."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def observe(self, session: Session, **capture: bool) -> Observability:
        config = ObservabilityConfig(
            team_id="blue", project_id="search", backend=OtlpBackend(), capture=Capture(**capture)
        )
        found = attach(
            session,
            config,
            metadata={"job_id": "job-123", "tags": ["a"]},
            tracer_provider=self.tracers,
            meter_provider=self.meters,
        )
        assert found is not None
        return found

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def tree(self) -> list[tuple[str, str | None]]:
        """Each span's name and its parent's."""
        names = {span.context.span_id: span.name for span in self.spans if span.context}
        return [
            (each.name, names[each.parent.span_id] if each.parent else None) for each in self.spans
        ]

    def points(self, metric: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            point
            for each in data.resource_metrics
            for scope in each.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.tracers.shutdown()
    collected.meters.shutdown()


def look(at: str) -> str:
    return f"seen {at}"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class Retrying:
    """Is answered at the second attempt."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield ModelRetry(reason="rate limited", wait=0.0, attempt=1, limit=8)
        yield ModelResponse(text="Seen.")

    async def aclose(self) -> None:
        pass


async def test_a_retry_is_an_event_of_the_model_calls_span(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session([], client=Retrying())
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    (event,) = [event for span in collected.spans for event in span.events]
    assert (event.name, dict(event.attributes or {})["reason"]) == ("retry", "rate limited")


async def test_a_run_is_a_tree_of_spans_by_the_conventions(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session(TURNS, look, config={"model": "gpt-5-mini"})
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
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
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Go.")
    await telemetry.close()
    names = {attributes(span)["gen_ai.provider.name"] for span in collected.spans}
    metric = collected.points("gen_ai.client.operation.duration")
    assert names | {point.attributes["gen_ai.provider.name"] for point in metric} == {told}


async def test_tokens_and_durations_are_metrics(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session(TURNS, look, config={"model": "gpt-5-mini"})
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
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
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Meet.")
    await telemetry.close()
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


async def test_a_model_that_fails_is_an_error_with_its_reason(
    open_session: OpenSession, collected: Collected
) -> None:
    def refuse(request: ModelRequest) -> dict[str, Any]:
        raise ModelError("API error 500 (after retries): busy")

    session = open_session([refuse])
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Hello?")
    await telemetry.close("error")
    run, chat = collected.spans
    for span in (run, chat):
        assert span.status.status_code is StatusCode.ERROR
        assert "busy" in (span.status.description or "")
        assert attributes(span)["error.type"] == "error"
    (duration,) = collected.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "error"


async def test_a_cancelled_run_ends_all_its_spans(
    open_session: OpenSession, collected: Collected
) -> None:
    started = asyncio.Event()

    async def wait() -> str:
        started.set()
        await asyncio.Event().wait()
        return "never"

    session = open_session([{"tool_calls": [{"name": "wait", "arguments": {}}]}], wait)
    telemetry = collected.observe(session)
    await telemetry.start()
    task = asyncio.create_task(session.run("Wait."))
    await started.wait()
    await session.cancel()
    await task
    await telemetry.close("cancelled")
    assert [span.name for span in collected.spans] == [
        "invoke_agent",
        "chat gpt-5-mini",
        "execute_tool wait",
    ]
    assert attributes(collected.spans[0])["paddock.run.status"] == "cancelled"
    assert attributes(collected.span("execute_tool wait"))["error.type"] == "tool_error"


async def test_a_blocked_call_has_a_span_that_says_so(
    open_session: OpenSession, collected: Collected, asking: Callable[[Any], ToolHandler]
) -> None:
    session = open_session(TURNS, asking(look))
    session.approval_callback = lambda name, arguments: False
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    span = collected.span("execute_tool look")
    assert attributes(span)["error.type"] == "blocked"
    assert span.status.description == "Blocked by user"


async def test_arguments_and_results_are_told_as_the_flags_say(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session(TURNS, look)
    telemetry = collected.observe(session, tool_arguments=False, tool_results=True)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    told = attributes(collected.span("execute_tool look"))
    assert "gen_ai.tool.call.arguments" not in told
    assert told["gen_ai.tool.call.result"] == "seen it"


@pytest.mark.parametrize(("traces", "sums"), [(True, False), (False, True)])
async def test_spans_and_metrics_can_be_left_out(
    open_session: OpenSession, collected: Collected, traces: bool, sums: bool
) -> None:
    session = open_session(TURNS, look)
    telemetry = collected.observe(session, traces=traces, metrics=sums)
    await telemetry.start()
    await session.run("Look.")
    await telemetry.close()
    assert bool(collected.spans) is traces
    assert bool(collected.points("gen_ai.client.token.usage")) is sums


async def test_a_compaction_between_runs_is_a_model_call_by_itself(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session([*TURNS, {"text": "In short."}], look)
    telemetry = collected.observe(session)
    await telemetry.start()
    await session.run("Look.")
    await session.compact()
    await telemetry.close()
    assert collected.tree()[-1] == ("chat gpt-5-mini", None)


async def test_a_compaction_in_a_run_is_an_event_of_it(
    open_session: OpenSession, collected: Collected
) -> None:
    full = {"text": "Long.", "usage": {"input_tokens": 10}}
    session = open_session([full, {"text": "In short."}])
    session.context_window = 10
    telemetry = collected.observe(session)
    await telemetry.start()
    for prompt in ("Begin.", "Go on."):
        await session.run(prompt)
    await telemetry.close()
    (event,) = [event for span in collected.spans for event in span.events]
    assert (event.name, dict(event.attributes or {})["trigger"]) == ("compact", "auto")


async def test_the_providers_of_the_process_are_left_alone(open_session: OpenSession) -> None:
    before = trace.get_tracer_provider(), metrics.get_meter_provider()
    config = ObservabilityConfig(
        team_id="a", project_id="b", backend=OtlpBackend(endpoint="http://127.0.0.1:9")
    )
    telemetry = attach(open_session([{"text": "Hello."}]), config)
    assert telemetry is not None
    await telemetry.start()
    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == before
    await telemetry.close()


def exporting() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name.startswith(("Otel", "OpenTel"))}


async def test_telemetry_that_was_never_started_or_was_forgotten_leaves_no_thread(
    open_session: OpenSession,
) -> None:
    config = ObservabilityConfig(
        team_id="a", project_id="b", backend=OtlpBackend(endpoint="http://127.0.0.1:9")
    )
    before = exporting()
    session = open_session([{"text": "Hello."}])
    telemetry = attach(session, config)
    assert telemetry is not None
    assert exporting() == before
    await telemetry.start()
    started = exporting() - before
    assert started
    del session, telemetry
    gc.collect()
    for thread in started:
        await asyncio.to_thread(thread.join, 10.0)
        assert not thread.is_alive(), thread
