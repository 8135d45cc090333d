"""The contract: what a sandbox is, whichever backend made it.

Policy is written here once (deadlines, output limits, path rules, transfers); a
backend supplies the primitives, the methods whose names start with an underscore.
This module does not know how any backend does its part, nor what an agent is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock._arguments import check_limit, check_whole
from paddock._capability import Capability
from paddock._commands import CommandMethods
from paddock.errors import Unsupported
from paddock.process import (
    DEFAULT_MAX_OUTPUT,
    KILL_GRACE,
    Command,
    ExecResult,
    Fence,
    Output,
    OutputCallback,
    Process,
    Pty,
    Stream,
)
from paddock.resources import Resources, Stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.files import FileSystem
    from paddock.image import Image
    from paddock.network import NetworkDecision

__all__ = [
    "DEFAULT_MAX_OUTPUT",
    "KILL_GRACE",
    "Capability",
    "Command",
    "ExecResult",
    "Fence",
    "Output",
    "OutputCallback",
    "Process",
    "Pty",
    "Resources",
    "Sandbox",
    "Stats",
    "Stream",
]


class Sandbox(CommandMethods):
    """One live sandbox.

    Use it as ``async with``, or call `aclose()` yourself: its processes die, and what was made
    for it is removed. All methods may be called by many tasks at once. A sandbox that died
    raises `SandboxLost` from every method; one that was closed raises `SandboxClosed`.
    """

    labels: Mapping[str, str]
    fs: FileSystem
    _time_limits: tuple[float | None, float | None] = (None, None)
    """Its lifetime and how long it may be idle, as they were set."""

    async def snapshot(self, name: str) -> Image:
        """Keep the sandbox's files as an image called `name`, for recipes to begin with.

        Processes and what lies in memory (tmpfs) are not kept. The sandbox stands still
        for as long as it takes, and continues.
        """
        raise Unsupported("snapshot()", backend=self.backend)

    async def fork(self, count: int = 1) -> list[Sandbox]:
        """Make `count` sandboxes with this one's files, environment and labels; see `snapshot`.

        They are the caller's to close, this one is not touched. All are made, or none; of 0
        there are none.
        """
        check_whole("count", count)
        self.raise_if_closed()
        forks = await self._fork(count)
        if self._time_limits != (None, None):
            await self._limit_forks(forks)
        for fork in forks:
            fork.secrets, fork.redactor = self.secrets, self.redactor
            fork.on_command = self.on_command
        return forks

    async def pause(self) -> None:
        """Stop all processes where they are; calls wait until `resume`.

        One that times out or is cancelled meanwhile ends; its command is killed when the
        sandbox continues.
        """
        raise Unsupported("pause()", backend=self.backend)

    async def resume(self) -> None:
        """Resume a paused sandbox."""
        raise Unsupported("resume()", backend=self.backend)

    async def limit_time(
        self, *, lifetime: float | None = None, idle_timeout: float | None = None
    ) -> None:
        """End the sandbox by itself, even if it is in use: `lifetime` seconds from now, and after
        `idle_timeout` seconds without a call or a running command.

        The guest enforces the limits, so they apply when this process is dead. Calls
        then raise `SandboxLost`. Recipes have both as fields.
        """
        limits = check_limit("lifetime", lifetime), check_limit("idle_timeout", idle_timeout)
        self.raise_if_closed()
        await self._limit_time(*limits)
        self._time_limits = limits

    async def renew(self, lifetime: float | None = None) -> None:
        """Begin the sandbox's lifetime now: of `lifetime` seconds, or of as many as it had.

        `ConfigError` if it has none and none is given.
        """
        limit = check_limit("lifetime", lifetime)
        self.raise_if_closed()
        await self._renew(limit)

    async def detach(self) -> None:
        """Let the sandbox live on without us, for `Backend.attach` to find it by its id.

        What runs in it runs on; this object is closed.
        """
        raise Unsupported("detach()", backend=self.backend)

    async def stats(self) -> Stats:
        """What the sandbox uses now."""
        raise Unsupported("stats()", backend=self.backend)

    async def url(self, port: int) -> str:
        """Where TCP `port` of the sandbox can be reached by HTTP and WebSocket.

        The port need not be declared. The same port has the same address until the sandbox
        closes, which closes all its connections. A server that does not listen yet is no
        error here: until it does, requests fail. `Unsupported` without `Capability.URL`.

        With `Capability.TCP` it is ``http://127.0.0.1:NNNNN``, which leads anything else over
        TCP, too: any program of this machine can use it, and the sandbox needs no network.
        Without, the backend says what a request has to bring.
        """
        number = check_whole("port", port, least=1, most=65535)
        self.raise_if_closed()
        return await self._url(number)

    @property
    def network_log(self) -> Sequence[NetworkDecision]:
        """What an allow list let through and what not, oldest first; the last 1,000 of it."""
        return ()

    @property
    def lost(self) -> bool:
        """Whether it is known to be gone, without asking: False may only mean that nothing has
        told so yet."""
        return self.closed

    async def _limit_forks(self, forks: Sequence[Sandbox]) -> None:
        """They live as long as this one was to live; close all of them on a failure."""
        try:
            for fork in forks:
                await fork._limit_time(*self._time_limits)
                fork._time_limits = self._time_limits
        except BaseException:
            for fork in forks:
                await fork.aclose()
            raise

    async def _limit_time(self, lifetime: float | None, idle_timeout: float | None) -> None:
        """For `limit_time`, where something inside keeps limits."""
        what = "idle_timeout=" if lifetime is None else "lifetime="
        raise Unsupported(what, backend=self.backend, hint="nothing inside could keep it")

    async def _renew(self, lifetime: float | None) -> None:
        """For `renew`."""
        raise Unsupported("renew()", backend=self.backend, hint="nothing inside could keep it")

    async def _fork(self, count: int) -> list[Sandbox]:
        """For those with `Capability.FORK`."""
        raise Unsupported("fork()", backend=self.backend)

    async def _url(self, port: int) -> str:
        """For those with `Capability.URL`."""
        raise Unsupported("url()", backend=self.backend)
