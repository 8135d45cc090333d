"""Telemetry of a session: `attach` says whether there is any, `Observability` keeps it.

It is a sink of the session's events. Knows no database and no protocol; those are its own sinks.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import (
    ConfigError,
    MissingDependency,
    ObservabilityInitializationError,
)
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import check_run_status
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.telemetry.config import ObservabilityConfig, OtlpBackend, SqliteBackend
from paddock.runtime.telemetry.subject import Subject

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from paddock.redaction import Redactor
    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.session.session import Session
    from paddock.runtime.telemetry.subject import Sink

__all__ = ["Observability", "attach"]


_log = get_logger(__name__)


def attach(
    session: Session,
    config: ObservabilityConfig | str | os.PathLike[str] | None = None,
    *,
    team_id: str | None = None,
    project_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Observability | None:
    """The telemetry of `session`; None where it is switched off or its tenant is not known.

    `config` is the path of a file, or None, to look as `ObservabilityConfig.load` says; or
    it is taken as it is, with the arguments as its tenant if it has none. `metadata` (what
    JSON can hold) goes with the session, without its secrets. With a `tracer_provider` or a
    `meter_provider` of your own, spans and metrics go there, and not to a collector of the
    configuration.
    Nothing is kept, and nothing begun, before `Observability.start`.

    Raises `ObservabilityInitializationError`, and `ConfigError` for a database file that the
    session's sandbox could write.
    """
    try:
        found = _resolved(config, team_id, project_id)
    except (OSError, ConfigError) as error:
        named = None if isinstance(config, ObservabilityConfig) or config is None else str(config)
        raise ObservabilityInitializationError(
            str(error), config_path=named, team_id=team_id, project_id=project_id
        ) from error
    if not found.enabled or not found.team_id or not found.project_id:
        return None
    if isinstance(found.backend, SqliteBackend):
        require_out_of_reach(
            found.backend.path,
            session.agent.config,
            what="the telemetry database",
            advice="choose a file elsewhere (backend.sqlite.path)",
        )
    try:
        sinks = _sinks(found, tracer_provider, meter_provider)
        subject = _subject(session, found.team_id, found.project_id, metadata or {})
    except (OSError, ConfigError, MissingDependency) as error:
        raise _cannot_begin(error, found) from error
    return Observability(session, found, subject, sinks)


def _cannot_begin(error: Exception, config: ObservabilityConfig) -> Exception:
    return ObservabilityInitializationError(
        str(error),
        config_path=str(config.path) if config.path else None,
        team_id=config.team_id,
        project_id=config.project_id,
    )


class Observability(EventSink):
    """What `attach` gives: keeps the telemetry of one session from `start` to `close`."""

    def __init__(
        self, session: Session, config: ObservabilityConfig, subject: Subject, sinks: list[Sink]
    ) -> None:
        self.config = config
        self.subject: Subject = subject
        self._session = weakref.ref(session)
        self._sinks = sinks
        self._started = False
        self._closed = False
        self._forgotten: list[weakref.finalize[[], Observability]] = []

    async def start(self) -> None:
        """Begin: the session is ``active`` from now on. Idempotent.

        Raises `ObservabilityInitializationError` if the telemetry has no place to go to.
        """
        if self._started:
            return
        self._started = True
        try:
            await finish(self._start())
        except (OSError, sqlite3.Error) as error:
            self._started = False
            raise _cannot_begin(error, self.config) from error

    def keep(self, envelope: Envelope) -> None:
        """Take an event. A failure to report it is logged; the run continues."""
        if self._closed:
            return
        for sink in self._sinks:
            try:
                sink.take(envelope)
            except Exception:
                _log.exception("telemetry has lost an event")

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        stack = contextlib.ExitStack()
        for sink in self._sinks:
            stack.enter_context(sink.around(envelope))
        return stack

    def note(self, **facts: Any) -> None:
        """Add to the session's metadata. Raises `ConfigError` for what JSON cannot hold.

        Nothing happens when the session was forgotten.
        """
        if (session := self._session()) is None:
            return
        metadata = _plain({**self.subject.metadata, **facts}, session.redactor)
        self._update(replace(self.subject, metadata=metadata))

    def profile_changed(self, profile: str) -> None:
        """The session has another permission profile from now on."""
        self._update(replace(self.subject, profile=profile))

    async def close(self, status: str = "completed") -> None:
        """End with `status` as the session's last. Idempotent; fine without `start`.

        Waits some seconds at most for what is not written yet; runs to its end if cancelled.
        Raises `ValueError` for an unknown status.
        """
        check_run_status(status)
        if not self._started or self._closed:
            return
        self._closed = True
        if (session := self._session()) is not None:
            session.detach(self)
        await finish(self._close(status))

    async def _start(self) -> None:
        for sink in self._sinks:
            await sink.start(self.subject)
            # Only a word to its threads, which end when they have written what they have.
            forgotten = weakref.finalize(self, sink.release)
            forgotten.atexit = False
            self._forgotten.append(forgotten)
        if (session := self._session()) is not None:
            session.attach(self)

    async def _close(self, status: str) -> None:
        for forgotten in self._forgotten:
            forgotten.detach()
        for sink in self._sinks:
            await sink.close(status)

    def _update(self, subject: Subject) -> None:
        self.subject = subject
        if self._started and not self._closed:
            for sink in self._sinks:
                sink.update(subject)


def _resolved(
    config: ObservabilityConfig | str | os.PathLike[str] | None,
    team_id: str | None,
    project_id: str | None,
) -> ObservabilityConfig:
    if not isinstance(config, ObservabilityConfig):
        return ObservabilityConfig.load(config, team_id=team_id, project_id=project_id)
    return replace(
        config, team_id=config.team_id or team_id, project_id=config.project_id or project_id
    )


def _subject(
    session: Session, team_id: str, project_id: str, metadata: Mapping[str, Any]
) -> Subject:
    config, profile = session.agent.config, session.registry.profile
    return Subject(
        session_id=session.id,
        team_id=team_id,
        project_id=project_id,
        model=config.model,
        provider=config.provider,
        profile="" if profile is None else profile.name,
        environment=config.backend_name,
        metadata=_plain(metadata, session.redactor),
    )


def _sinks(
    config: ObservabilityConfig,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
) -> list[Sink]:
    given = tracer_provider is not None or meter_provider is not None
    sinks: list[Sink] = []
    if isinstance(config.backend, SqliteBackend):
        sinks.append(_database(config.backend, config))
    elif not given:
        sinks.append(_collector(config.backend, config))
    if given:
        sinks.append(_providers(config, tracer_provider, meter_provider))
    return sinks


def _database(backend: SqliteBackend, config: ObservabilityConfig) -> Sink:
    from paddock.runtime.telemetry.rows import Rows
    from paddock.runtime.telemetry.writer import TelemetryWriter

    if backend.path.is_dir():
        raise IsADirectoryError(21, "is a directory", str(backend.path))
    backend.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Rows(TelemetryWriter(backend.path), config.capture)


def _collector(backend: OtlpBackend, config: ObservabilityConfig) -> Sink:
    try:
        from paddock.runtime.telemetry.exporters import connect
    except ModuleNotFoundError as error:
        raise MissingDependency("opentelemetry", "otel") from error
    from paddock.runtime.telemetry.otel import Spans

    return Spans(config.capture, lambda: connect(backend))


def _providers(
    config: ObservabilityConfig,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
) -> Sink:
    from paddock.runtime.telemetry.otel import Providers, Spans

    providers = Providers(tracers=tracer_provider, meters=meter_provider)
    return Spans(config.capture, lambda: providers)


def _plain(metadata: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """`metadata` as JSON gives it back, without secrets."""
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"telemetry metadata has to be what JSON can hold: {error}") from error
    plain: dict[str, Any] = redactor.value(json.loads(text))
    return plain
