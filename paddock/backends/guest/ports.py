"""The ports of a sandbox: loopback listeners that lead in, and a gate that leads out.

Owns every connection of one guest and the tasks that serve them. It does not know what
is let through a gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._frozen import FrozenMapping
from paddock.backends.guest.inside.wire import TUNNELS_MAX
from paddock.backends.guest.relay import ByteStream, TcpStream, relay
from paddock.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from paddock.backends.guest.client import GuestClient
    from paddock.backends.guest.tunnel import Tunnel
    from paddock.network import NetworkDecision

__all__ = ["JAVA_OPTIONS", "Gate", "Ports"]

JAVA_OPTIONS = "JAVA_TOOL_OPTIONS"
"""Options of every Java program. An image may have some of its own, which stay."""
ACCEPT_PAUSE = 0.1
"""Seconds until connections are taken again when there were no descriptors for them."""


async def _hang_up(stream: ByteStream) -> None:
    """Lead nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Where connections to `port` inside lead; without a port, nowhere.

    `variables` tell programs inside of it; `log` is what it decided, oldest first.
    """

    port: int | None = None
    variables: Mapping[str, str] = field(default_factory=FrozenMapping)
    log: Sequence[NetworkDecision] = ()
    serve: Callable[[ByteStream], Awaitable[None]] = _hang_up

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment `given`, with the gate's variables in it."""
        merged = {**given, **self.variables}
        if own := given.get(JAVA_OPTIONS):
            merged[JAVA_OPTIONS] = f"{own} {self.variables.get(JAVA_OPTIONS, '')}".rstrip()
        return merged


class Ports:
    """The connections of one sandbox. Closed when it closes, and when it is lost."""

    def __init__(self, client: GuestClient, gate: Gate) -> None:
        self._client = client
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, socket.socket] = {}
        self._visitors = 0
        self._tasks: set[asyncio.Task[None]] = set()
        if gate.port is not None:
            client.tunnels.listen(self._on_open)
        client.link.when_over(self._end)

    def url(self, port: int) -> str:
        """Where `port` is on this machine's loopback; it listens there from the first call on."""
        self._client.link.raise_if_over()
        listener = self._listeners.get(port)
        if listener is None:
            listener = self._listeners[port] = _listen()
            self._take_visitors()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def aclose(self) -> None:
        """Close all listeners and connections; returns when nothing serves them."""
        self._end()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _end(self) -> None:
        if self._gate.port is not None:
            self._client.tunnels.listen(lambda tunnel: tunnel.close())
        self._turn_visitors_away()
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None], on_end: Callable[[], None]) -> None:
        """Run `work`; then, also if it was cancelled before it began, `on_end`."""
        task = self._loop.create_task(work)
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            on_end()

        task.add_done_callback(end)

    # in

    def _take_visitors(self) -> None:
        """Take connections, unless there are as many as may be: they wait in the queue."""
        if self._visitors < TUNNELS_MAX:
            for port, listener in self._listeners.items():
                self._loop.add_reader(listener, self._on_visitor, listener, port)

    def _turn_visitors_away(self) -> None:
        for listener in self._listeners.values():
            self._loop.remove_reader(listener)

    def _on_visitor(self, listener: socket.socket, port: int) -> None:
        try:
            visitor = TcpStream(listener.accept()[0])
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors
            self._turn_visitors_away()
            self._loop.call_later(ACCEPT_PAUSE, self._take_visitors)
            return
        self._visitors += 1
        if self._visitors >= TUNNELS_MAX:
            self._turn_visitors_away()
        self._spawn(self._lead_in(visitor, port), lambda: self._on_visitor_gone(visitor))

    async def _lead_in(self, visitor: TcpStream, port: int) -> None:
        # Whatever breaks is a reset to the visitor, as it is not ended properly.
        with (
            contextlib.suppress(OSError, SandboxError),
            self._client.tunnels.dial(port) as tunnel,
        ):
            await tunnel.opened()
            await relay(visitor, tunnel)

    def _on_visitor_gone(self, visitor: TcpStream) -> None:
        visitor.close()
        self._visitors -= 1
        self._take_visitors()

    # out

    def _on_open(self, tunnel: Tunnel) -> None:
        self._spawn(self._lead_out(tunnel), tunnel.close)

    async def _lead_out(self, tunnel: Tunnel) -> None:
        with contextlib.suppress(OSError):
            await self._gate.serve(tunnel)


def _listen() -> socket.socket:
    listener = socket.socket()
    try:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen(TUNNELS_MAX)
    except OSError:
        listener.close()
        raise
    return listener
