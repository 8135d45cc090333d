"""Telemetry: what sessions cost and do, in a database or at an OpenTelemetry collector."""

from __future__ import annotations

from paddock.runtime.telemetry.config import (
    Capture,
    ObservabilityConfig,
    OtlpBackend,
    SqliteBackend,
)
from paddock.runtime.telemetry.observer import Observability, attach
from paddock.runtime.telemetry.storage import TelemetryStorage

__all__ = [
    "Capture",
    "Observability",
    "ObservabilityConfig",
    "OtlpBackend",
    "SqliteBackend",
    "TelemetryStorage",
    "attach",
]
