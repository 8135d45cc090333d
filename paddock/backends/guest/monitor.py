"""Watches over one sandbox: keeps its lease, reconnects, and notices when it is gone.

It is the one place that decides a sandbox is lost because of silence or of a stream that
ended. Before it does, it asks the backend.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from paddock.backends.guest.link import Link, Liveness, State
from paddock.backends.heartbeat import heartbeats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Heart", "Monitor", "until_gone"]

ANSWER_TIMEOUT = 20.0
"""Seconds in which a heartbeat has to be answered: under any load that lets a guest run."""
SILENCE_MAX = 120.0
"""Seconds after which silence counts though the backend cannot be asked either."""
LOOK_MAX = 5.0
"""Seconds between two looks at what was answered; a loop that is held up has not looked."""
KILL_LOOK = 0.25
"""Seconds, beyond the grace, after which a tree that was to be killed and is still there has the
sandbox looked at: killing takes some milliseconds."""


class Heart(Protocol):
    """What sends heartbeats to a sandbox, and has its link count the answers."""

    @property
    def connected(self) -> bool:
        """Whether there is a stream."""

    def beat(self) -> None:
        """Send one, from another thread than the loop's. Never blocks."""


async def until_gone(
    link: Link, gone: asyncio.Future[None], *, grace: float, kill_timeout: float
) -> bool:
    """Wait for `gone`, the end of processes that are being killed.

    Return False if they cannot die as the sandbox is paused; they will when it is resumed.
    The sandbox is given up if it runs, and they outlive the grace by `kill_timeout` seconds.
    """
    left, wait = kill_timeout, KILL_LOOK
    while link.state is not State.PAUSED:
        await asyncio.wait([gone], timeout=grace + wait)
        if gone.done():
            return True
        if link.state is State.RUNNING:  # else it could not be told
            left -= wait
            found = await link.probe()
            if found is Liveness.PAUSED:
                link.pause()
            elif left <= 0:
                link.fail("the processes of a command do not end")
        grace, wait = 0.0, min(2 * wait, max(left, KILL_LOOK))
    return gone.done()


class Monitor:
    """Runs from its making until the link is over, or it is closed."""

    def __init__(
        self,
        link: Link,
        heart: Heart,
        *,
        interval: float,
        exit_reason: Callable[[], Awaitable[str]],
        reconnect: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`interval` is in seconds between two heartbeats. `exit_reason` raises nothing.
        `reconnect` returns False if there is nothing to connect to; it is None where a
        stream cannot be opened a second time. Both bound their time."""
        self._link = link
        self._heart = heart
        self._reconnect = reconnect
        self._exit_reason = exit_reason
        self._look_interval = min(interval, LOOK_MAX)
        self._silence = 0.0
        self._answered = 0
        self._heartbeat = heartbeats.start(heart.beat, interval)
        link.when_over(self._heartbeat.stop)
        self._task = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Watch no more; return when nothing of it runs."""
        self._heartbeat.stop()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        while not self._link.over:
            state = self._link.state
            if state is State.RECONNECTING:
                if self._reconnect is None or not await self._reconnect():
                    self._link.fail(await self._exit_reason())
                continue
            try:
                async with asyncio.timeout(self._look_interval):
                    await self._link.changed_from(state)
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        """Count silence in looks, not by a clock: a loop that was held up has heard nothing."""
        if self._link.state is State.PAUSED:
            if not self._heart.connected:
                await self._look_at_paused()
            return
        answered = self._link.beats_answered
        if answered != self._answered or not self._link.answers_due:
            self._answered, self._silence = answered, 0.0
            return
        self._silence += self._look_interval
        if self._silence >= ANSWER_TIMEOUT:
            await self._on_silence()

    async def _on_silence(self) -> None:
        found = await self._link.probe()
        if found is Liveness.PAUSED:
            self._link.pause()
        elif found is Liveness.ENDED:
            self._link.fail(await self._exit_reason())
        elif found is Liveness.RUNNING or self._silence >= SILENCE_MAX:
            self._link.fail(f"its guest has not answered for {self._silence:g} s")

    async def _look_at_paused(self) -> None:
        """Its stream broke while it was paused: look whether it still is."""
        found = await self._link.probe()
        if found is Liveness.ENDED:
            self._link.fail(await self._exit_reason())
        elif found is Liveness.RUNNING:
            self._link.resume(connected=False)
