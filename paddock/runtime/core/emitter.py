"""Where a run's events go: each in an envelope, without secrets, to every sink."""

from __future__ import annotations

import contextlib
import datetime as dt
import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paddock.errors import ConfigError
from paddock.redaction import NOTHING_SECRET, Redactor
from paddock.runtime.core.redacted import redacted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from paddock.runtime.core.events import Event

__all__ = ["TOP", "Emitter", "Envelope", "EventSink", "Origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whose events they are: of an agent that a person prompts, or of one that works for it.

    `agent_path` has the names of the agents from the top, or of the tools by which those were
    asked that have none, and `parent_call_id` is the call of the last one. Both are empty for the
    agent at the top of a session.
    """

    agent_path: tuple[str, ...] = ()
    parent_call_id: str | None = None

    def below(self, name: str, call_id: str) -> Origin:
        """The origin of the agent `name` that the call `call_id` runs."""
        return Origin(agent_path=(*self.agent_path, name), parent_call_id=call_id)


TOP = Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An event, when it happened (`at`, in UTC), and what it is a part of.

    `seq` counts the envelopes of one run from 1, in the order in which they were made; those
    of agents that work for it are counted where they pass. `run_id` counts the session's runs
    from 1, and is 0 for what happens between them.
    """

    seq: int
    at: dt.datetime
    session_id: str
    run_id: int
    origin: Origin
    event: Event


class EventSink:
    """Takes the envelopes of a run, and of agents that work for it. Subclasses override what
    they need."""

    def keep(self, envelope: Envelope) -> None:
        """Take it before anything else happens in the run. What this raises ends the run."""

    async def show(self, envelope: Envelope) -> None:
        """Show it. A slow one slows the run, and what this raises ends it.

        What closes a call that a cancelled run leaves open is kept, and not shown.
        """

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        """Surround the work that a `ModelStarted`, `ToolStarted` or `ProvisionStarted` begins.

        It is entered and left in the task that does the work, and raises nothing.
        """
        return _NOTHING

    async def sync(self) -> None:
        """Return when what was kept would survive the machine."""


_NOTHING = contextlib.nullcontext()


class Emitter:
    """Gives the events of one run to its `sinks`, in their order."""

    def __init__(
        self,
        sinks: Sequence[EventSink],
        *,
        session_id: str,
        origin: Origin = TOP,
        redactor: Redactor = NOTHING_SECRET,
    ) -> None:
        for sink in sinks:
            _require_sink(sink)
        self.origin = origin
        self.redactor = redactor
        self.run_id = 0
        self._sinks = tuple(sinks)
        self._around = [each for each in sinks if type(each).around is not EventSink.around]
        self._noted: list[Envelope] = []
        self.session_id = session_id
        self._seq = 0

    def envelope(self, event: Event) -> Envelope:
        """Put `event` into an envelope, without secrets, for nobody yet."""
        return Envelope(
            seq=self._next(),
            at=dt.datetime.now(dt.UTC),
            session_id=self.session_id,
            run_id=self.run_id,
            origin=self.origin,
            event=redacted(event, self.redactor),
        )

    def keep(self, event: Event) -> Envelope:
        """Have `event` kept; it is not shown before `show`."""
        return self._kept(self.envelope(event))

    def keep_below(self, envelope: Envelope) -> Envelope:
        """Have an event of an agent that works for this run kept, counted in its new place."""
        return self._kept(replace(envelope, seq=self._next()))

    def note(self, event: Event) -> None:
        """Have `event` kept where nothing can be awaited; it is shown before the next one is."""
        self._noted.append(self.keep(event))

    async def show(self, envelope: Envelope) -> None:
        noted, self._noted = self._noted, []
        for each in (*noted, envelope):
            for sink in self._sinks:
                await sink.show(each)

    async def emit(self, event: Event) -> Envelope:
        """Have `event` kept, then shown."""
        envelope = self.keep(event)
        await self.show(envelope)
        return envelope

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        """Surround the work that `envelope` begins, in the task that does it."""
        if not self._around:
            return _NOTHING
        stack = contextlib.ExitStack()
        for sink in self._around:
            stack.enter_context(sink.around(envelope))
        return stack

    async def sync(self) -> None:
        """Return when what was kept would survive the machine."""
        for sink in self._sinks:
            await sink.sync()

    def _kept(self, envelope: Envelope) -> Envelope:
        for sink in self._sinks:
            sink.keep(envelope)
        return envelope

    def _next(self) -> int:
        self._seq += 1
        return self._seq


def _require_sink(sink: object) -> None:
    """Raise `ConfigError` for what would miss events in silence, or fail at the first one."""
    if not isinstance(sink, EventSink):
        shown = sink.__name__ if isinstance(sink, type) else f"a {type(sink).__name__}"
        raise ConfigError(f"{shown} is no sink: give an instance of a class that derives EventSink")
    if inspect.iscoroutinefunction(sink.keep):
        raise ConfigError(f"{type(sink).__name__}.keep cannot be async; show can")
