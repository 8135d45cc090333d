"""The spans and metrics of one session, by the GenAI semantic conventions.

A run is ``invoke_agent``, a model call ``chat``, a tool call ``execute_tool``; what a tool
does in its sandbox (``provision``, ``exec``) are the children of its call. The spans of
a run are the current ones where its work is done, in whichever task, so whatever else is
instrumented there nests below them, and so does the run of an agent that a tool has work.
Uses the API of OpenTelemetry only; knows not who takes what is made here.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from paddock._watching import ExecWork, ModelWork, ProvisionWork, ToolWork, watch
from paddock.runtime.models import SCRIPTED, provider_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Span, Tracer

    from paddock._watching import Tell, Work
    from paddock.runtime.telemetry.config import Capture
    from paddock.runtime.telemetry.subject import Record, Subject

__all__ = ["UNFINISHED", "Instruments", "SessionSpans"]

BLOCKED = "Blocked by user"
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
    """Makes the spans of one session of its records, and watches its work meanwhile."""

    def __init__(self, subject: Subject, capture: Capture, instruments: Instruments) -> None:
        self.subject = subject
        self._capture = capture
        self._tracer = instruments.tracer
        self._tokens, self._durations = instruments.tokens, instruments.durations
        self._run: _Open | None = None
        self._model: _Open | None = None
        self._tools: dict[str, _Open] = {}
        self._failure: str | None = None

    def on_event(self, record: Record) -> None:
        """Take a record; see `Sink.on_event`."""
        handler = _HANDLERS.get(record["type"])
        if handler is not None:
            handler(self, record)

    def end(self) -> None:
        """End what is open."""
        self._end_all(UNFINISHED)

    @contextlib.contextmanager
    def around(self, work: Work) -> Iterator[Tell]:
        """The span of `work` is the current one in the block; commands and sandboxes get one."""
        match work:
            case ModelWork():
                begun = self._model
            case ToolWork():
                begun = self._tools.get(work.call_id)
            case ProvisionWork() | ExecWork():
                with self._within(work) as tell:
                    yield tell
                return
            case _:
                assert_never(work)
        if begun is None:  # of a session that a tool has opened by itself
            yield _unheard
            return
        with trace.use_span(begun.span, record_exception=False, set_status_on_exception=False):
            yield _unheard

    @contextlib.contextmanager
    def _within(self, work: ProvisionWork | ExecWork) -> Iterator[Tell]:
        name = "exec" if isinstance(work, ExecWork) else "provision"
        attributes = {"paddock.backend": work.backend}
        if isinstance(work, ExecWork):
            attributes["paddock.sandbox.id"] = work.sandbox_id
        with self._tracer.start_as_current_span(
            f"{name} {work.backend}",
            attributes=attributes,
            record_exception=False,  # its text may hold what the user keeps to themselves
            set_status_on_exception=False,
        ) as span:
            try:
                yield lambda exit_code: span.set_attribute("process.exit.code", exit_code)
            except BaseException as error:
                _fail(span, type(error).__name__)
                raise

    def _begin_run(self, record: Record) -> None:
        self._end_all(UNFINISHED)
        subject = self.subject
        attributes = self._common("invoke_agent", subject.model) | _of_subject(subject)
        attributes |= {"gen_ai.conversation.id": subject.session_id}
        attributes |= {"paddock.run_id": record.get("run_id", 0)}
        span = self._tracer.start_span(
            "invoke_agent", kind=SpanKind.INTERNAL, attributes=attributes
        )
        self._run = _Open(span)
        watch(self)

    def _end_run(self, record: Record) -> None:
        self._end_all(
            self._failure or str(record["status"]), status=record["status"], record=record
        )

    def _begin_model(self, record: Record) -> None:
        model = record["model"]
        conversation = {"gen_ai.conversation.id": self.subject.session_id}
        attributes = self._common("chat", model) | conversation
        span = self._child(f"chat {model}", SpanKind.CLIENT, attributes)
        self._model = _Open(span, self._common("chat", model))

    def _end_model(self, record: Record) -> None:
        begun, self._model = self._model, None
        if begun is None:
            return
        begun.attributes["gen_ai.response.model"] = record["model"]
        begun.span.set_attributes({"gen_ai.response.model": record["model"], **_usage(record)})
        for kind in ("input", "output"):
            told = begun.attributes | {"gen_ai.token.type": kind}
            self._tokens.record(record.get(f"{kind}_tokens") or 0, told)
        self._finish_model(begun)

    def _finish_model(self, begun: _Open) -> None:
        self._durations.record(time.monotonic() - begun.began, begun.attributes)
        begun.span.end()

    def _begin_tool(self, record: Record) -> None:
        span = self._tool_span(record)
        self._tools[record["tool_call_id"]] = _Open(span)

    def _end_tool(self, record: Record) -> None:
        begun = self._tools.pop(record["tool_call_id"], None)
        if begun is None:
            return
        if self._capture.tool_results:
            begun.span.set_attribute("gen_ai.tool.call.result", str(record.get("result", "")))
        if not record["success"]:
            _fail(begun.span, "tool_error")
        begun.span.end()

    def _block_tool(self, record: Record) -> None:
        span = self._tool_span(record)
        _fail(span, "blocked", BLOCKED)
        span.end()

    def _compacted(self, record: Record) -> None:
        if self._run is not None:
            names = ("tokens_before", "tokens_after", "trigger")
            self._run.span.add_event("compact", {name: record[name] for name in names})

    def _note_failure(self, record: Record) -> None:
        self._failure = str(record["message"])

    def _tool_span(self, record: Record) -> Span:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record["tool_name"],
            "gen_ai.tool.call.id": record["tool_call_id"],
            "gen_ai.tool.type": "function",
        }
        if self._capture.tool_arguments:
            arguments = json.dumps(record["tool_args"], default=str)
            attributes["gen_ai.tool.call.arguments"] = arguments
        return self._child(f"execute_tool {record['tool_name']}", SpanKind.INTERNAL, attributes)

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

    def _end_all(self, reason: str, *, status: str = "error", record: Record | None = None) -> None:
        """End what is open: what a run that has ended leaves open did not come to its end."""
        if self._model is not None:
            self._model.attributes["error.type"] = status
            _fail(self._model.span, status, reason)
            self._finish_model(self._model)
        for begun in self._tools.values():
            _fail(begun.span, status, reason)
            begun.span.end()
        if self._run is not None:
            span = self._run.span
            span.set_attribute("paddock.run.status", status)
            span.set_attributes(_usage((record or {}).get("usage") or {}))
            if status == "error":
                _fail(span, "error", reason)
            span.end()
        self._run, self._model, self._failure = None, None, None
        self._tools.clear()


_HANDLERS: Mapping[str, Callable[[SessionSpans, Record], None]] = {
    "run_start": SessionSpans._begin_run,
    "run_end": SessionSpans._end_run,
    "llm_start": SessionSpans._begin_model,
    "llm_end": SessionSpans._end_model,
    "tool_start": SessionSpans._begin_tool,
    "tool_end": SessionSpans._end_tool,
    "tool_blocked": SessionSpans._block_tool,
    "compact": SessionSpans._compacted,
    "error": SessionSpans._note_failure,
    "cancelled": SessionSpans._note_failure,
}


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


def _usage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and cost of a record, under the conventions' names."""
    return {name: fields[key] for key, name in _USAGE_NAMES.items() if fields.get(key) is not None}


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


def _unheard(*, exit_code: int) -> None:
    """The record of the same work says it all."""
