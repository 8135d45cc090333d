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
    ProcessInfo,
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
    "ProcessInfo",
    "Pty",
    "Resources",
    "Sandbox",
    "Stats",
    "Stream",
]


class Sandbox(CommandMethods):
    """One live sandbox.

    Use it with ``async with``, or call `aclose()` yourself: both kill its processes and remove
    everything that was made for it. All methods may be called by many tasks at once. Every
    method raises `SandboxLost` after the sandbox died, and `SandboxClosed` after it was closed.
    """

    labels: Mapping[str, str]
    fs: FileSystem
    _time_limits: tuple[float | None, float | None] = (None, None)
    """The lifetime and the idle timeout that were set."""

    async def snapshot(self, name: str) -> Image:
        """Save the sandbox's files as an image called `name`, which recipes can start from.

        Processes and files in memory (tmpfs) are not saved. The sandbox is paused meanwhile.
        """
        raise Unsupported("snapshot()", backend=self.backend)

    async def fork(self, count: int = 1) -> list[Sandbox]:
        """Make `count` sandboxes with this one's files, environment and labels; see `snapshot`.

        The caller has to close them. This sandbox does not change. On an error none remains.
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
        """Freeze all processes; calls wait until `resume`.

        A call that times out or is cancelled meanwhile returns at once; its command is killed on
        `resume`.
        """
        raise Unsupported("pause()", backend=self.backend)

    async def resume(self) -> None:
        """Resume a paused sandbox."""
        raise Unsupported("resume()", backend=self.backend)

    async def limit_time(
        self, *, lifetime: float | None = None, idle_timeout: float | None = None
    ) -> None:
        """End the sandbox `lifetime` seconds from now, even if it is in use, or after
        `idle_timeout` seconds without a call and without a running command.

        The guest enforces both limits, so they apply even if this process dies. Later calls
        raise `SandboxLost`. Recipes have both as fields.
        """
        limits = check_limit("lifetime", lifetime), check_limit("idle_timeout", idle_timeout)
        self.raise_if_closed()
        await self._limit_time(*limits)
        self._time_limits = limits

    async def renew(self, lifetime: float | None = None) -> None:
        """Restart the sandbox's lifetime: `lifetime` seconds from now, or as many as it had.

        Raise `ConfigError` if it had none and none is given.
        """
        limit = check_limit("lifetime", lifetime)
        self.raise_if_closed()
        await self._renew(limit)

    async def detach(self) -> None:
        """Leave the sandbox running without an owner; `Backend.attach` joins it by its id.

        Its processes keep running; this object is closed.
        """
        raise Unsupported("detach()", backend=self.backend)

    async def stats(self) -> Stats:
        """Return the resources that the sandbox uses now."""
        raise Unsupported("stats()", backend=self.backend)

    async def url(self, port: int) -> str:
        """Return the URL of TCP `port` of the sandbox, for HTTP and WebSocket.

        The port need not be declared. The URL of a port stays the same until the sandbox closes,
        which closes all its connections. A server that does not listen yet is not an error:
        until it does, requests fail. Raise `Unsupported` without `Capability.URL`.

        With `Capability.TCP` the URL is ``http://127.0.0.1:NNNNN``, which also carries any other
        protocol over TCP: any program of this machine can use it, and the sandbox needs no
        network. Without it, the backend documents what a request must send.
        """
        number = check_whole("port", port, least=1, most=65535)
        self.raise_if_closed()
        return await self._url(number)

    @property
    def network_log(self) -> Sequence[NetworkDecision]:
        """The last 1,000 decisions of the allow list, oldest first."""
        return ()

    @property
    def lost(self) -> bool:
        """Whether the sandbox is known to be gone. Asks nothing: False may be out of date."""
        return self.closed

    async def _limit_forks(self, forks: Sequence[Sandbox]) -> None:
        """Give forks the time limits of this sandbox; close all of them on a failure."""
        try:
            for fork in forks:
                await fork._limit_time(*self._time_limits)
                fork._time_limits = self._time_limits
        except BaseException:
            for fork in forks:
                await fork.aclose()
            raise

    async def _limit_time(self, lifetime: float | None, idle_timeout: float | None) -> None:
        """Implement `limit_time`, in a backend whose guest can enforce limits."""
        what = "idle_timeout=" if lifetime is None else "lifetime="
        raise Unsupported(what, backend=self.backend, hint="nothing inside could keep it")

    async def _renew(self, lifetime: float | None) -> None:
        """Implement `renew`."""
        raise Unsupported("renew()", backend=self.backend, hint="nothing inside could keep it")

    async def _fork(self, count: int) -> list[Sandbox]:
        """Implement `fork`, with `Capability.FORK`."""
        raise Unsupported("fork()", backend=self.backend)

    async def _url(self, port: int) -> str:
        """Implement `url`, with `Capability.URL`."""
        raise Unsupported("url()", backend=self.backend)
