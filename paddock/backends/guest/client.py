"""The host's end of a guest's stream: requests, replies and channels over asyncio.

What comes from a guest is not trusted: a frame that makes no sense ends the
connection and with it the sandbox. It does not know how the stream was made.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.inside import wire
from paddock.backends.guest.process import GuestProcess, error_from
from paddock.backends.guest.tunnel import Tunnels
from paddock.errors import SandboxError, SandboxLost
from paddock.sandbox import KILL_GRACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KILL_DEADLINE", "GuestClient"]

KILL_DEADLINE = 30.0
"""Seconds, beyond the grace, after which a guest that cannot end a tree is given up:
SIGKILL takes effect at once unless the kernel holds a process in a disk wait."""
JOB_GRACE = 10.0
"""Seconds for one of the guest's own jobs to remove what it has half made."""


class GuestClient(asyncio.Protocol):
    """One guest. All methods may be called by many tasks at once."""

    def __init__(self) -> None:
        self._frames = wire.Frames()
        self._transport: asyncio.Transport | None = None
        self._replies: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._processes: dict[int, GuestProcess] = {}
        self._next_channel = 0
        self._successor: GuestClient | None = None
        self._held: dict[int, bytes] = {}
        self.patience: float | None = KILL_DEADLINE
        """Seconds, beyond the grace, that a tree may take to be ended; None while the sandbox
        stands still."""
        self.tunnels = Tunnels(self.send, self._channel)
        self.lost: asyncio.Future[SandboxLost] = asyncio.get_running_loop().create_future()
        """Done when the guest is gone, with what every later call raises."""
        self.disconnected = asyncio.Event()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._successor is not None:
            self._successor.data_received(data)
            return
        try:
            for kind, channel, payload in self._frames.feed(data):
                self._dispatch(kind, channel, payload)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            self.fail(f"its guest does not keep to the protocol ({error})")

    def connection_lost(self, exc: Exception | None) -> None:
        (self._successor or self).disconnected.set()

    def _dispatch(self, kind: int, channel: int, payload: bytes) -> None:
        process = self._processes.get(channel)
        if process is not None:
            process._on_frame(kind, payload)
        elif kind in wire.TUNNEL_KINDS:
            self.tunnels.on_frame(kind, channel, payload)
        elif kind == wire.REPLY:
            reply = self._replies.pop(channel, None)
            if reply is not None and not reply.done():
                reply.set_result(wire.parse_message(payload))

    # our side

    @property
    def awaits(self) -> bool:
        """Whether somebody waits for a word of the guest's."""
        return bool(self._replies) or any(one._awaits for one in self._processes.values())

    @property
    def streams(self) -> bool:
        """Whether somebody wants output as it comes."""
        return any(one._streamed and one._awaits for one in self._processes.values())

    def fail(self, reason: str) -> None:
        """Give the guest up: everything that waits for it, or will, raises `SandboxLost`."""
        if self.lost.done():
            return
        error = SandboxLost(reason)
        self.lost.set_result(error)
        if self._transport is not None and not self.disconnected.is_set():
            self._transport.abort()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(error)
        self._replies.clear()
        for process in tuple(self._processes.values()):
            process._on_lost(error)
        self._processes.clear()
        self.tunnels.on_lost()

    def _resumable(self) -> list[int]:
        """The channels whose answer may still be had over another stream.

        Everything else that waits fails now: what was streamed has gaps, and whether a
        request took effect nobody knows.
        """
        unknown = "the stream to its guest broke; whether this took effect is not known"
        for channel, reply in self._replies.items():
            if channel not in self._held and not reply.done():
                reply.set_exception(SandboxError(unknown))
        for process in tuple(self._processes.values()):
            if process._channel not in self._held and not process._start_again():
                process._on_lost(SandboxLost("the stream to its guest broke, and output was lost"))
                self._forget(process._channel)
        self.tunnels.on_lost()
        return [
            channel
            for channel, process in self._processes.items()
            if channel not in self._held and not process._result.done()
        ]

    async def take_over(self, other: GuestClient, host: str) -> None:
        """Go on over the stream of `other`, as the guest's host that was called `host`."""
        pending = self._resumable()
        other._successor = self
        self._frames = other._frames
        self._transport = other._transport
        self.disconnected.clear()
        held, self._held = self._held, {}
        await self.request("succeed", host=host, pending=pending)
        for frames in held.values():
            self.write(frames)

    def close(self) -> None:
        """End the stream, at which a guest kills all that it started and exits."""
        if self._transport is not None:
            self._transport.close()

    def write(self, data: bytes) -> None:
        """Send bytes that are no frame: the program of a guest that is not running yet."""
        assert self._transport is not None, "not connected"
        self._transport.write(data)

    def send(self, kind: int, channel: int, payload: bytes | memoryview = b"") -> None:
        if self.lost.done():
            raise SandboxLost(self.lost.result().reason)
        assert self._transport is not None, "not connected"
        data = wire.frame(kind, channel, payload)
        if not self.disconnected.is_set():
            self._transport.write(data)
        elif kind == wire.REQUEST or channel in self._held:
            # What is asked while there is no stream is asked when there is one again.
            self._held[channel] = self._held.get(channel, b"") + data

    def _channel(self) -> int:
        self._next_channel = (self._next_channel + 1) % wire.GUEST_CHANNELS
        return self._next_channel

    async def request(
        self, operation: str, blob: bytes = b"", /, **arguments: Any
    ) -> tuple[dict[str, Any], bytes]:
        """One question, one answer. If cancelled, the answer is dropped when it comes."""
        channel = self._channel()
        self.send(wire.REQUEST, channel, wire.message({"op": operation, **arguments}, blob))
        reply: asyncio.Future[tuple[dict[str, Any], bytes]] = (
            asyncio.get_running_loop().create_future()
        )
        self._replies[channel] = reply
        try:
            body, data = await reply
        finally:
            self._replies.pop(channel, None)
        if "error" in body:
            raise error_from(body["error"])
        return body, data

    def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        stdin: bool,
        streamed: bool,
        keep: int,
        user: str | None = None,
    ) -> GuestProcess:
        """Start a command; does not wait for the guest."""
        order = {"op": "exec", "argv": list(argv), "env": dict(env), "cwd": cwd, "user": user}
        return self._open(order, stdin=stdin, streamed=streamed, keep=keep)

    def job(
        self, name: str, /, *, stdin: bool = False, streamed: bool = True, **arguments: Any
    ) -> GuestProcess:
        """Start one of the guest's own jobs; its output is the job's answer."""
        order = {"op": "job", "job": name, "args": arguments, "cwd": "/"}
        keep = 0 if streamed else wire.MAX_FRAME
        return self._open(order, stdin=stdin, streamed=streamed, keep=keep)

    def _open(
        self, order: dict[str, Any], *, stdin: bool, streamed: bool, keep: int
    ) -> GuestProcess:
        channel = self._channel()
        order |= {"stdin": stdin, "streamed": streamed, "keep": keep}
        self.send(wire.REQUEST, channel, wire.message(order))
        grace = JOB_GRACE if order["op"] == "job" else KILL_GRACE
        process = GuestProcess(
            self, channel, streamed=streamed, keep=keep, grace=grace, stdin=stdin
        )
        self._processes[channel] = process
        return process

    def _forget(self, channel: int) -> None:
        self._processes.pop(channel, None)
