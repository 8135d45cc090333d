"""Telemetry as OpenTelemetry spans and metrics: the sink, and whose providers it uses.

How events become spans is in `paddock.runtime.telemetry.spans`; the exporter is
`paddock.runtime.telemetry.exporters`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace

from paddock._logs import get_logger
from paddock.runtime.core.events import RunFinished, RunStarted
from paddock.runtime.telemetry.spans import Instruments, SessionSpans

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.telemetry.config import Capture
    from paddock.runtime.telemetry.subject import Subject

__all__ = ["Providers", "Spans"]

SCOPE = "paddock"

CLOSE_TIMEOUT = 10.0
"""Seconds for getting the last spans and metrics out; a collector may be gone."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """Who takes spans and metrics, if anybody. `shut_down` gets out what they hold, and ends
    them; it is None for those that are somebody else's."""

    tracers: TracerProvider | None = None
    meters: MeterProvider | None = None
    shut_down: Callable[[], None] | None = None


class Spans:
    """The `Sink` that makes spans and metrics with the providers that `connect` gives."""

    def __init__(self, capture: Capture, connect: Callable[[], Providers]) -> None:
        self._capture = capture
        self._connect = connect
        self._shut_down: Callable[[], None] | None = None
        self._instruments = self._made(Providers())
        self._own: SessionSpans | None = None
        self._below: dict[str, SessionSpans] = {}

    async def start(self, subject: Subject) -> None:
        providers = await asyncio.to_thread(self._connect)
        self._shut_down = providers.shut_down
        self._instruments = self._made(providers)
        self._own = self._of(subject)

    def update(self, subject: Subject) -> None:
        if self._own is not None:
            self._own.subject = subject

    def take(self, envelope: Envelope) -> None:
        event = envelope.event
        if self._own is not None and not envelope.origin.agent_path:
            if isinstance(event, RunFinished):  # its sub-agents have ended too
                self._end_below()
            self._own.take(event)
            return
        if isinstance(event, RunStarted):
            self._below[envelope.session_id] = self._beginning(event)
        if (spans := self._below.get(envelope.session_id)) is not None:
            spans.take(event)

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        below = self._below.get(envelope.session_id)
        spans = below if envelope.origin.agent_path else self._own
        return contextlib.nullcontext() if spans is None else spans.around(envelope.event)

    async def close(self, status: str) -> None:
        self._end_below()
        if self._own is not None:
            self._own.end()
        if self._shut_down is None:
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        thread = self._in_thread(lambda: loop.call_soon_threadsafe(done.set))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await done.wait()
        except TimeoutError:
            _log.warning("%s: the last spans and metrics could not be sent", thread.name)

    def release(self) -> None:
        if self._shut_down is not None:
            self._in_thread(_nothing)

    def _beginning(self, event: RunStarted) -> SessionSpans:
        """Spans of an agent that begins to work for the session's."""
        assert self._own is not None  # the session began before
        subject = replace(
            self._own.subject,
            session_id=event.session_id,
            model=event.model,
            provider=event.provider,
            profile=event.profile,
            environment=event.backend,
        )
        return self._of(subject)

    def _of(self, subject: Subject) -> SessionSpans:
        return SessionSpans(subject, self._capture, self._instruments)

    def _made(self, providers: Providers) -> Instruments:
        tracers = providers.tracers if self._capture.traces else None
        meters = providers.meters if self._capture.metrics else None
        return Instruments.of(
            (tracers or trace.NoOpTracerProvider()).get_tracer(SCOPE),
            (meters or metrics.NoOpMeterProvider()).get_meter(SCOPE),
        )

    def _end_below(self) -> None:
        for spans in self._below.values():
            spans.end()
        self._below.clear()

    def _in_thread(self, done: Callable[[], object]) -> threading.Thread:
        """Shut the providers down in a thread that does not delay the process's end."""
        shut_down = self._shut_down or _nothing

        def work() -> None:
            shut_down()
            with contextlib.suppress(RuntimeError):  # the loop did not wait
                done()

        thread = threading.Thread(target=work, name="OpenTelemetry's end", daemon=True)
        thread.start()
        return thread


def _nothing() -> None:
    """Does nothing: spans are exported in the background."""
