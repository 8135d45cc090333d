"""The spans and metrics of one session, by the GenAI semantic conventions.

A run is ``invoke_agent``, a model call ``chat``, a tool call ``execute_tool``; what a tool
does in the session's sandbox (``provision``, ``exec``) are the children of its call. The span
of a call is OpenTelemetry's current one in the task that does the call, so whatever else is
instrumented there nests below it, and so does the run of an agent that a tool has work.
Uses only the API of OpenTelemetry; does not know the exporters.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from paddock.process import CommandFinished
from paddock.runtime.core.events import (
    CompactionFinished,
    ModelFinished,
    ModelRetry,
    ModelStarted,
    ProvisionFinished,
    ProvisionStarted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolBlocked,
    ToolFinished,
    ToolStarted,
)
from paddock.runtime.models import SCRIPTED, provider_of
from paddock.runtime.telemetry.subject import BLOCKED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Span, Tracer

    from paddock.runtime.core.events import Event
    from paddock.runtime.core.model import Usage
    from paddock.runtime.telemetry.config import Capture
    from paddock.runtime.telemetry.subject import Subject

__all__ = ["UNFINISHED", "Instruments", "SessionSpans"]

UNFINISHED = "it did not end"

TOKEN_BOUNDS = [4.0**power for power in range(14)]
SECOND_BOUNDS = [0.01 * 2**power for power in range(14)]
"""The buckets that the conventions advise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What spans and metrics are made with."""

    tracer: Tracer
    tokens: Histogram
    durations: Histogram

    @classmethod
    def of(cls, tracer: Tracer, meter: Meter) -> Instruments:
        """Those of `meter`, made by the conventions."""
        return cls(
            tracer=tracer,
            tokens=meter.create_histogram(
                "gen_ai.client.token.usage",
                unit="{token}",
                description="Number of input and output tokens used.",
                explicit_bucket_boundaries_advisory=TOKEN_BOUNDS,
            ),
            durations=meter.create_histogram(
                "gen_ai.client.operation.duration",
                unit="s",
                description="GenAI operation duration.",
                explicit_bucket_boundaries_advisory=SECOND_BOUNDS,
            ),
        )


@dataclass(slots=True)
class _Open:
    """A span that has no end yet; `began` is on the monotonic clock, in seconds."""

    span: Span
    attributes: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)


class SessionSpans:
    """Makes the spans of one session of its events."""

    def __init__(self, subject: Subject, capture: Capture, instruments: Instruments) -> None:
        self.subject = subject
        self._capture = capture
        self._tracer = instruments.tracer
        self._tokens, self._durations = instruments.tokens, instruments.durations
        self._run: _Open | None = None
        self._model: _Open | None = None
        self._tools: dict[str, Span] = {}
        self._provision: Span | None = None
        self._failure: str | None = None

    def take(self, event: Event) -> None:
        """Take an event of the session, in the task in which it happens."""
        match event:
            case RunStarted():
                self._begin_run(event)
            case RunFailed() | RunCancelled():
                self._failure = event.message
            case RunFinished():
                self._end_all(self._failure or event.status, status=event.status, usage=event.run)
            case CompactionFinished() if self._run is not None:
                names = ("tokens_before", "tokens_after", "trigger")
                self._run.span.add_event("compact", {name: getattr(event, name) for name in names})
            case ModelStarted():
                self._begin_model(event)
            case ModelFinished():
                self._end_model(event)
            case _:
                self._take_work(event)

    def around(self, event: Event) -> AbstractContextManager[object]:
        """The span that `event` began is the current one in the block."""
        span = None
        match event:
            case ModelStarted() if self._model is not None:
                span = self._model.span
            case ToolStarted():
                span = self._tools.get(event.call_id)
            case ProvisionStarted():
                span = self._provision
        if span is None:
            return contextlib.nullcontext()
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def end(self) -> None:
        """End what is open."""
        self._end_all(UNFINISHED)

    def _take_work(self, event: Event) -> None:
        """Take an event of a tool, or of the sandbox: that is work of the current span's."""
        match event:
            case ToolStarted():
                self._tools[event.call_id] = self._tool_span(event)
            case ModelRetry() if self._model is not None:
                self._model.span.add_event("retry", dataclasses.asdict(event))
            case ToolFinished():
                self._end_tool(event)
            case ToolBlocked():
                span = self._tool_span(event)
                _fail(span, "blocked", BLOCKED)
                span.end()
            case ProvisionStarted():
                attributes = {"paddock.backend": event.backend}
                name = f"provision {event.backend}"
                self._provision = self._tracer.start_span(name, attributes=attributes)
            case ProvisionFinished() if self._provision is not None:
                if event.error is not None:
                    _fail(self._provision, event.error)
                self._provision.end()
                self._provision = None
            case CommandFinished():
                self._add_command(event)

    def _begin_run(self, event: RunStarted) -> None:
        self._end_all(UNFINISHED)
        subject = self.subject
        attributes = self._common("invoke_agent", subject.model) | _of_subject(subject)
        attributes |= {"gen_ai.conversation.id": subject.session_id}
        attributes |= {"paddock.run_id": event.run_id}
        self._run = _Open(
            self._tracer.start_span("invoke_agent", kind=SpanKind.INTERNAL, attributes=attributes)
        )

    def _begin_model(self, event: ModelStarted) -> None:
        conversation = {"gen_ai.conversation.id": self.subject.session_id}
        attributes = self._common("chat", event.model)
        span = self._child(f"chat {event.model}", SpanKind.CLIENT, attributes | conversation)
        self._model = _Open(span, attributes)

    def _end_model(self, event: ModelFinished) -> None:
        begun, self._model = self._model, None
        if begun is None:
            return
        begun.attributes["gen_ai.response.model"] = event.model
        begun.span.set_attributes({"gen_ai.response.model": event.model, **_usage(event.usage)})
        counts = {"input": event.usage.input_tokens, "output": event.usage.output_tokens}
        for kind, count in counts.items():
            self._tokens.record(count, begun.attributes | {"gen_ai.token.type": kind})
        self._finish_model(begun)

    def _finish_model(self, begun: _Open) -> None:
        self._durations.record(time.monotonic() - begun.began, begun.attributes)
        begun.span.end()

    def _end_tool(self, event: ToolFinished) -> None:
        span = self._tools.pop(event.call_id, None)
        if span is None:
            return
        if self._capture.tool_results:
            span.set_attribute("gen_ai.tool.call.result", event.content)
        if not event.success:
            _fail(span, "tool_error")
        span.end()

    def _add_command(self, event: CommandFinished) -> None:
        """A span of what is over; the command itself may be what the user keeps to themselves."""
        attributes = {"paddock.backend": event.backend, "paddock.sandbox.id": event.sandbox_id}
        end = time.time_ns()
        start = end - round(event.duration * 1e9)
        span = self._tracer.start_span(
            f"exec {event.backend}", attributes=attributes, start_time=start
        )
        if event.exit_code is not None:
            span.set_attribute("process.exit.code", event.exit_code)
        if event.error is not None:
            _fail(span, event.error)
        span.end(end)

    def _tool_span(self, event: ToolStarted | ToolBlocked) -> Span:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": event.tool_name,
            "gen_ai.tool.call.id": event.call_id,
            "gen_ai.tool.type": "function",
        }
        if self._capture.tool_arguments:
            arguments = json.dumps(dict(event.arguments), default=str)
            attributes["gen_ai.tool.call.arguments"] = arguments
        return self._child(f"execute_tool {event.tool_name}", SpanKind.INTERNAL, attributes)

    def _common(self, operation: str, model: str) -> dict[str, Any]:
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _provider(model, self.subject.provider),
            "gen_ai.request.model": model,
        }

    def _child(self, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Span:
        """A new span below the run's, or below the current one outside of a run."""
        above = None if self._run is None else trace.set_span_in_context(self._run.span)
        return self._tracer.start_span(name, context=above, kind=kind, attributes=attributes)

    def _end_all(self, reason: str, *, status: str = "error", usage: Usage | None = None) -> None:
        """End what is open: what a run that has ended leaves open did not come to its end."""
        if self._model is not None:
            self._model.attributes["error.type"] = status
            _fail(self._model.span, status, reason)
            self._finish_model(self._model)
        for span in (*self._tools.values(), *filter(None, [self._provision])):
            _fail(span, status, reason)
            span.end()
        if self._run is not None:
            span = self._run.span
            span.set_attribute("paddock.run.status", status)
            if usage is not None:
                span.set_attributes(_usage(usage))
            if status == "error":
                _fail(span, "error", reason)
            span.end()
        self._run, self._model, self._provision, self._failure = None, None, None, None
        self._tools.clear()


def _provider(model: str, given: str | None) -> str:
    """Who serves a model, by the conventions' names: the API that is spoken."""
    if model.startswith(SCRIPTED):
        return "scripted"
    return given or provider_of(model)


def _of_subject(subject: Subject) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "paddock.team_id": subject.team_id,
        "paddock.project_id": subject.project_id,
        "paddock.profile": subject.profile,
        "paddock.environment": subject.environment,
    }
    for name, value in subject.metadata.items():
        plain = value if isinstance(value, str | bool | int | float) else json.dumps(value)
        attributes[f"paddock.metadata.{name}"] = plain
    return attributes


def _usage(usage: Usage) -> dict[str, Any]:
    """Tokens and cost, under the conventions' names."""
    return {name: getattr(usage, field) for field, name in _USAGE_NAMES.items()}


_USAGE_NAMES = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost_usd": "paddock.usage.cost_usd",
}


def _fail(span: Span, kind: str, description: str | None = None) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, description))
