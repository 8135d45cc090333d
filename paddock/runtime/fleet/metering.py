"""Where the time of an attempt goes, and what its models cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import (
    ModelFinished,
    ModelRetry,
    ModelStarted,
    RunFinished,
    ToolFinished,
    ToolStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.core.events import Event

__all__ = ["AgentMeter"]


class AgentMeter(EventSink):
    """Splits the time of an agent's run into that of its models and that of its tools.

    Each second is counted once, however many calls run in it: for the model if an agent
    waits for one, otherwise for the tools. `cost` is in US dollars.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = {"model": 0.0, "tools": 0.0}
        self.cost = 0.0
        self._clock = clock
        self._since = clock()
        self._models: set[tuple[str, ...]] = set()
        self._tools: set[str] = set()

    def keep(self, envelope: Envelope) -> None:
        self._add()
        self._follow(envelope.event, (envelope.session_id, *envelope.origin.agent_path))

    def stop(self) -> None:
        """Reset the count of what runs."""
        self._add()
        self._models.clear()
        self._tools.clear()

    def _add(self) -> None:
        now = self._clock()
        if self._models or self._tools:
            self.seconds["model" if self._models else "tools"] += now - self._since
        self._since = now

    def _follow(self, event: Event, agent: tuple[str, ...]) -> None:
        match event:
            case ModelStarted() | ModelRetry():
                self._models.add(agent)
            case ModelFinished() | RunFinished():
                self._models.discard(agent)
            case ToolStarted():
                self._models.discard(agent)
                self._tools.add(event.call_id)
            case ToolFinished():
                self._tools.discard(event.call_id)
            case _:
                pass
