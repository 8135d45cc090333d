"""OpenTelemetry as a user may have it, and what came there of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from paddock import ObservabilityConfig
from paddock.runtime.telemetry import Capture, OtlpBackend, attach

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from paddock.runtime.session.session import Session
    from paddock.runtime.telemetry import Observability

__all__ = ["LOOK", "TURNS", "Collected", "attributes", "look"]

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

    async def run(self, session: Session, prompt: str = "Go.", **capture: bool) -> None:
        """Run `prompt` with telemetry of `session`, from its start to its end."""
        telemetry = self.observe(session, **capture)
        await telemetry.start()
        try:
            await session.run(prompt)
        finally:
            await telemetry.close()

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of this name, in the order in which they ended."""
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
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


def look(at: str) -> str:
    return f"seen {at}"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
