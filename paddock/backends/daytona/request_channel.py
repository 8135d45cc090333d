"""How a sandbox is reached: commands by requests, and what it means when one fails.

A request fails when the service is busy, when something on its way is, or when the sandbox is
no more; which it was is asked for before it is made again. What a command does here may be
done twice.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from paddock._concurrency import Interrupted, interruptible
from paddock.backends.daytona.failures import ServiceError, sdk
from paddock.backends.daytona.inventory import state_of
from paddock.backends.guest.link import Liveness, State
from paddock.backends.guest.stderr import TAIL_BYTES, printable
from paddock.errors import ConfigError, SandboxLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.daytona.service import Service
    from paddock.backends.guest.link import Link

__all__ = ["RequestChannel"]

MARGIN = 30
"""Seconds, beyond what it waits inside, for a command to start and its answer to arrive."""
SHORTEST = 1.0
"""Seconds that a request waits inside at least, if it is to wait at all. One that failed sooner
than that was not given up for its waiting."""
TRIES = 3
"""How often a command is run that ends for no reason: something inside may have killed it."""
ENDS = {
    "stopping": "it was stopped from outside",
    "stopped": "it was stopped from outside",
    "archiving": "it was archived from outside",
    "archived": "it was archived from outside",
    "destroying": "it was deleted from outside",
    "destroyed": "it was deleted from outside",
    "error": "Daytona reports an error",
    "build_failed": "its image could not be built",
}
"""States from which a sandbox does not come back by itself. Paused ones do not either, but
a sandbox that was paused by other means is expected to be resumed."""
PAUSED = frozenset({"pausing", "paused"})
NO_RELAY_BUFFER = ("ConnectionRefusedError", "FileNotFoundError")
MISSING = 127
"""A shell's exit code for a program that is not there."""


class RequestChannel:
    """The way to one sandbox. While `link` is paused, requests wait."""

    def __init__(self, service: Service, native: Any, link: Link) -> None:
        self._service = service
        self._native = native
        self._link = link
        self._borne = math.inf
        """Seconds that a request may wait inside without being given up on its way."""

    async def run(self, command: Callable[[float], str], patience: float) -> str:
        """What `command` prints, which is made of the seconds that it waits inside: `patience`,
        or as many as have turned out to be borne.

        Raises `SandboxLost` when the sandbox can no longer be reached, and `ConfigError`
        when the key is refused.
        """
        said = ""
        for _ in range(TRIES):
            await self._link.changed_from(State.PAUSED)
            try:
                answer = await self._service.call(
                    "reaching its guest",
                    lambda: self._execute(command, patience),
                    before_again=self.raise_if_gone,
                    refused_is_passing=True,
                )
            except ServiceError as error:
                raise SandboxLost(str(error)) from None
            if answer.exit_code == 0:
                return str(answer.result)
            printed = printable(answer.result.encode(errors="replace")[-TAIL_BYTES:])
            said = f"exit {answer.exit_code}: {printed}"
            if answer.exit_code == MISSING or "python3: not found" in answer.result:
                break
            if any(name in answer.result for name in NO_RELAY_BUFFER):
                said = "something in the sandbox has killed it"
                break
        raise SandboxLost(f"its guest does not answer ({said})")

    async def _execute(self, command: Callable[[float], str], patience: float) -> Any:
        """One request. When it fails after a while, the next one does not wait as long: what is
        in between may have given it up for its waiting, and does not say so."""
        waiting = min(patience, self._borne)
        begun = time.monotonic()
        try:
            timeout = math.ceil(waiting) + MARGIN
            return await self._native.process.exec(command(waiting), timeout=timeout)
        except sdk().DaytonaError:
            if waiting > SHORTEST and time.monotonic() - begun >= SHORTEST:
                self._borne = min(self._borne, max(waiting / 2, SHORTEST))
            raise

    async def raise_if_gone(self) -> None:
        """Raise `SandboxLost` if the sandbox will not answer again.

        A service that cannot even say that is taken for busy.
        """
        try:
            await interruptible(self._native.refresh_data(request_timeout=MARGIN))
        except Interrupted:
            return
        except sdk().DaytonaError as error:
            if error.status_code == 404:
                raise SandboxLost(
                    "it was deleted from outside", sandbox_id=self._native.id
                ) from None
            return
        if self.ended:
            reason = self._native.error_reason
            raise self._lost(f"{self.ended}: {reason}" if reason else self.ended)

    async def probe(self) -> Liveness:
        """How the sandbox is, as the service says."""
        try:
            await self._native.refresh_data(request_timeout=MARGIN)
        except sdk().DaytonaError as error:
            return Liveness.ENDED if error.status_code == 404 else Liveness.UNKNOWN
        except Exception:  # whatever the SDK raises, it has not told
            return Liveness.UNKNOWN
        if self.ended:
            return Liveness.ENDED
        return Liveness.PAUSED if self._state in PAUSED else Liveness.RUNNING

    @property
    def _state(self) -> str:
        return state_of(self._native)

    @property
    def ended(self) -> str | None:
        """Why the sandbox is no more, as far as the service's events or answers have told."""
        return ENDS.get(self._state)

    def _lost(self, reason: str) -> SandboxLost:
        return SandboxLost(reason, sandbox_id=self._native.id)

    async def renew(self) -> None:
        """Tell the service that the sandbox is in use; it does not matter if that fails once."""
        with contextlib.suppress(ServiceError, ConfigError):
            await self._service.call(
                "renewing the lease",
                lambda: self._native.refresh_activity(request_timeout=MARGIN),
                before_again=self.raise_if_gone,
                refused_is_passing=True,
            )
