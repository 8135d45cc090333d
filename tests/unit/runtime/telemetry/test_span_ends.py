"""Spans of what fails, is refused, retried or cancelled; and what telemetry leaves behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.trace import StatusCode

from paddock import (
    ModelError,
    ObservabilityConfig,
)
from paddock.runtime.core.model import ModelResponse, ModelRetry
from paddock.runtime.telemetry import OtlpBackend, attach
from tests.unit.runtime.telemetry.collecting import TURNS, Collected, attributes, look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from paddock.runtime.core.model import ModelEvent, ModelRequest
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import OpenSession


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
    await collected.run(session, "Look.")
    (event,) = [event for span in collected.spans for event in span.events]
    assert (event.name, dict(event.attributes or {})["reason"]) == ("retry", "rate limited")


async def test_a_model_that_fails_is_an_error_with_its_reason(
    open_session: OpenSession, collected: Collected
) -> None:
    def refuse(request: ModelRequest) -> dict[str, Any]:
        raise ModelError("API error 500 (after retries): busy")

    session = open_session([refuse])
    await collected.run(session, "Hello?")
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
    await collected.run(session, "Look.")
    span = collected.span("execute_tool look")
    assert attributes(span)["error.type"] == "blocked"
    assert span.status.description == "Blocked by user"


async def test_arguments_and_results_are_told_as_the_flags_say(
    open_session: OpenSession, collected: Collected
) -> None:
    session = open_session(TURNS, look)
    await collected.run(session, "Look.", tool_arguments=False, tool_results=True)
    told = attributes(collected.span("execute_tool look"))
    assert "gen_ai.tool.call.arguments" not in told
    assert told["gen_ai.tool.call.result"] == "seen it"


@pytest.mark.parametrize(("traces", "sums"), [(True, False), (False, True)])
async def test_spans_and_metrics_can_be_left_out(
    open_session: OpenSession, collected: Collected, traces: bool, sums: bool
) -> None:
    session = open_session(TURNS, look)
    await collected.run(session, "Look.", traces=traces, metrics=sums)
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
