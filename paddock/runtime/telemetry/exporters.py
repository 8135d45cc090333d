"""OpenTelemetry providers of our own, which send what they are given to a collector.

They belong to one session and never become the process's default, unless the configuration says so.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from paddock.runtime.telemetry.otel import Providers

if TYPE_CHECKING:
    from paddock.runtime.telemetry.config import OtlpBackend

__all__ = ["connect"]

EXPORT_TIMEOUT = 5.0
"""Seconds for one request to the collector, its retries included."""


def connect(backend: OtlpBackend) -> Providers:
    """Providers whose spans and metrics go to `backend`'s collector; starts their threads."""
    resource = _resource()
    headers = dict(backend.headers)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans = OTLPSpanExporter(backend.url("traces"), headers=headers, timeout=EXPORT_TIMEOUT)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    points = OTLPMetricExporter(backend.url("metrics"), headers=headers, timeout=EXPORT_TIMEOUT)
    reader = PeriodicExportingMetricReader(points)
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    if backend.set_global:
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(meters)

    def shut_down() -> None:
        tracers.shutdown()
        meters.shutdown(timeout_millis=EXPORT_TIMEOUT * 1000)

    return Providers(tracers=tracers, meters=meters, shut_down=shut_down)


def _resource() -> Resource:
    """Who we are; the environment (OTEL_SERVICE_NAME) may name the service otherwise."""
    resource = Resource.create({"service.version": version("paddock")})
    if str(resource.attributes.get("service.name")).startswith("unknown_service"):
        return resource.merge(Resource({"service.name": "paddock"}))
    return resource
