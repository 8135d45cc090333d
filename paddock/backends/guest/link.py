"""The state of the way to what runs in a sandbox: one value, changed in one place.

::

    RUNNING ── pause() ──> PAUSED ── resume() ──> RUNNING, or RECONNECTING without a stream
       │
       └── break_off() ──> RECONNECTING ── resume() ──> RUNNING

    any of them ── fail(reason) ──> LOST        any of them ── close() ──> CLOSED

A sandbox that is paused stays `PAUSED` when its stream breaks: it can be reached again only
when it runs. `LOST` and `CLOSED` are final. No I/O.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable

from paddock._concurrency import Signal
from paddock.errors import SandboxClosed, SandboxLost

__all__ = ["Link", "Liveness", "Probe", "State"]


class State(enum.Enum):
    RUNNING = "running"
    PAUSED = "paused"
    RECONNECTING = "reconnecting"
    LOST = "lost"
    CLOSED = "closed"


FINAL = (State.LOST, State.CLOSED)


class Liveness(enum.Enum):
    """What a backend finds when it looks at a sandbox that does not answer."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """The backend does not answer either."""


Probe = Callable[[], Awaitable[Liveness]]
"""Asks the backend how a sandbox is. It bounds its own time and raises nothing."""


async def _no_probe() -> Liveness:
    return Liveness.UNKNOWN


class Link:
    """Whether a sandbox can be reached, and why not. Belongs to one event loop."""

    def __init__(self) -> None:
        self.probe: Probe = _no_probe
        self.sandbox_id: str | None = None
        """The id that errors carry, as soon as the sandbox has one."""
        self.ended: asyncio.Future[SandboxLost | SandboxClosed] = (
            asyncio.get_running_loop().create_future()
        )
        """Done in `LOST` and `CLOSED`. Its result is not for raising: see `error`."""
        self.beats_answered = 0
        """Heartbeats that were answered over the stream that there is."""
        self._beats_sent = 0
        self._beats_before_pause = 0
        self._state = State.RUNNING
        self._changed = Signal()
        self._listeners: list[Callable[[], None]] = []

    @property
    def state(self) -> State:
        return self._state

    @property
    def over(self) -> bool:
        """Whether the state is final."""
        return self._state in FINAL

    def pause(self) -> None:
        """The sandbox's processes stand still, until `resume` or an answer to a later heartbeat."""
        self._beats_before_pause = self._beats_sent
        self._become(State.PAUSED)

    def break_off(self) -> None:
        """The stream has gone."""
        self.beats_answered = self._beats_sent = self._beats_before_pause = 0
        if self._state is State.RUNNING:
            self._become(State.RECONNECTING)

    def resume(self, *, connected: bool = True) -> None:
        """The sandbox runs. `connected` tells whether there is a stream to it."""
        self._become(State.RUNNING if connected else State.RECONNECTING)

    def fail(self, reason: str) -> None:
        """Give the sandbox up: what waits for it, and every later call, raises `SandboxLost`."""
        if not self.over:
            self.ended.set_result(SandboxLost(reason, sandbox_id=self.sandbox_id))
            self._become(State.LOST)

    def close(self) -> None:
        """We end it: what waits for it, and every later call, raises `SandboxClosed`."""
        if not self.over:
            name = f"sandbox {self.sandbox_id}" if self.sandbox_id else "the sandbox"
            self.ended.set_result(SandboxClosed(f"{name} is closed"))
            self._become(State.CLOSED)

    def error(self) -> SandboxLost | SandboxClosed:
        """A new exception that says how it ended, in `LOST` and `CLOSED`."""
        error = self.ended.result()
        if isinstance(error, SandboxLost):
            return SandboxLost(error.reason, sandbox_id=self.sandbox_id)
        return SandboxClosed(*error.args)

    def raise_if_over(self) -> None:
        """Raise `SandboxLost` or `SandboxClosed` in a final state."""
        if self.over:
            raise self.error()

    # heartbeats

    @property
    def answers_due(self) -> bool:
        """Whether a heartbeat was sent that is not answered."""
        return self._beats_sent > self.beats_answered

    def begin_beat(self) -> bool:
        """Count a heartbeat that is about to be sent, and return whether it is to be.

        To a sandbox that is paused, one without an answer is enough: its answer tells that the
        sandbox runs again, no matter what resumed it. Called by the heartbeats' thread.
        """
        if self.over or (self._state is State.PAUSED and self.answers_due):
            return False
        self._beats_sent += 1
        return True

    def on_beat_answered(self) -> bool:
        """Count an answer; return False if none was due."""
        if not self.answers_due:
            return False
        self.beats_answered += 1
        if self._state is State.PAUSED and self.beats_answered > self._beats_before_pause:
            self._become(State.RUNNING)
        return True

    def when_over(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when the state becomes final, before anybody else acts."""
        self._listeners.append(listener)

    async def changed_from(self, *states: State) -> State:
        """Wait until the state is none of `states`; return it."""
        while self._state in states:
            await self._changed.wait()
        return self._state

    def _become(self, state: State) -> None:
        if self.over:
            return
        self._state = state
        changed, self._changed = self._changed, Signal()
        changed.set()
        if state in FINAL:
            for listener in self._listeners:
                listener()
