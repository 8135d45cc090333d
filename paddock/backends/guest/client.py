"""The host's end of a guest's stream: requests, replies and channels over asyncio.

What comes from a guest is not trusted: a frame that makes no sense ends the
connection and with it the sandbox. It does not know how the stream was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.backends.guest.inside import wire
from paddock.backends.guest.tunnel import Tunnels
from paddock.errors import FileChanged, SandboxError, SandboxLost
from paddock.sandbox import KILL_GRACE, ExecResult, Output, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from paddock.sandbox import Stream

__all__ = ["KILL_DEADLINE", "GuestClient", "GuestProcess"]

KILL_DEADLINE = 30.0
"""Seconds, beyond the grace, after which a guest that cannot end a tree is given up:
SIGKILL takes effect at once unless the kernel holds a process in a disk wait."""
CREDIT_STEP = wire.WINDOW // 4
"""Bytes taken before the guest is told: a small part of what it may send unacknowledged."""
JOB_GRACE = 10.0
"""Seconds for one of the guest's own jobs to remove what it has half made."""
OUTPUT_FRAMES: dict[int, Stream] = {wire.STDOUT: "stdout", wire.STDERR: "stderr"}
ERRORS: dict[str, type[Exception]] = {
    "FileChanged": FileChanged,
    "ValueError": ValueError,
    "Killed": SandboxError,
    "Unknown": SandboxError,
}
"""The guest's exceptions that have no errno, and what they are on this side."""


def error_from(told: Mapping[str, Any]) -> Exception:
    """The exception that a guest described."""
    text = str(told.get("text", ""))
    if "errno" in told:
        path = told.get("path")
        return OSError(int(told["errno"]), text, *([str(path)] if path is not None else []))
    kind = ERRORS.get(str(told.get("kind")))
    return kind(text) if kind else SandboxError(f"{told.get('kind')}: {text}")


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

    def send(self, kind: int, channel: int, payload: bytes = b"") -> None:
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


class GuestProcess(Process):
    """One command on one channel."""

    def __init__(
        self,
        client: GuestClient,
        channel: int,
        *,
        streamed: bool,
        keep: int,
        grace: float,
        stdin: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._client = client
        self._channel = channel
        self._streamed = streamed
        self._keep = keep
        self._grace = grace
        self._stdin = stdin
        self._captures = {
            "stdout": wire.Capture(keep),
            "stderr": wire.Capture(keep),
        }
        self._unread: deque[tuple[Stream, bytes]] = deque()
        self._reading = False
        self._discarding = not streamed
        self._changed = asyncio.Event()
        self._result: asyncio.Future[ExecResult] = loop.create_future()
        self._result.add_done_callback(_retrieve)
        self._gone: asyncio.Future[None] = loop.create_future()
        self._killing = False
        self._owed = 0
        self._stdin_window = wire.WINDOW
        self._stdin_closed = False

    @property
    def _awaits(self) -> bool:
        return not (self._gone if self._killing else self._result).done()

    # from the guest

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind in OUTPUT_FRAMES:
            self._on_output(OUTPUT_FRAMES[kind], payload)
        elif kind == wire.REPLY:
            self._on_exit(wire.parse_message(payload)[0])
        elif kind == wire.STDIN_CREDIT:
            self._stdin_window += wire.LENGTH.unpack(payload)[0]
        elif kind == wire.STDIN_CLOSED:
            self._stdin_closed = True
        elif kind == wire.GONE:
            self._client._forget(self._channel)
            if not self._gone.done():
                self._gone.set_result(None)
        else:
            raise ValueError(f"frame kind {kind}")
        self._changed.set()

    def _on_output(self, stream: Stream, data: bytes) -> None:
        self._captures[stream].feed(data)
        if not self._streamed:
            return
        if self._discarding:
            self._acknowledge(len(data))
        else:
            self._unread.append((stream, data))

    def _on_exit(self, body: dict[str, Any]) -> None:
        if self._result.done():
            raise ValueError("a command ended twice")
        if not body.get("background") and not self._killing:
            self._client._forget(self._channel)
            self._gone.set_result(None)
        if "error" in body:
            self._result.set_exception(error_from(body["error"]))
            return
        self._result.set_result(
            ExecResult(
                exit_code=int(body["exit_code"]),
                out=self._output("stdout", body["stdout"]),
                err=self._output("stderr", body["stderr"]),
                duration=float(body["duration"]),
                background=bool(body["background"]),
                oom_killed=bool(body.get("oom")),
            )
        )

    def _output(self, stream: Stream, told: Mapping[str, Any]) -> Output:
        capture = self._captures[stream]
        spill = told.get("spill")
        return Output(
            head=bytes(capture.head),
            tail=bytes(capture.tail),
            dropped=int(told["dropped"]),
            spill=None if spill is None else PurePosixPath(str(spill)),
            spill_truncated=bool(told.get("spill_truncated")),
        )

    def _start_again(self) -> bool:
        """Be as if nothing had come yet; False if what came or went cannot be had again."""
        if self._streamed or self._stdin or self._killing:
            return False
        if not self._result.done():
            self._captures = {name: wire.Capture(self._keep) for name in self._captures}
        return True

    def _on_lost(self, error: SandboxLost) -> None:
        if not self._result.done():
            self._result.set_exception(error)
        if not self._gone.done():
            self._gone.set_result(None)
        self._stdin_closed = True
        self._changed.set()

    def _acknowledge(self, size: int) -> None:
        """Give the guest room for more, not for every piece: it needs some, not all of it."""
        self._owed += size
        if self._owed >= CREDIT_STEP:
            with contextlib.suppress(SandboxLost):
                self._client.send(wire.CREDIT, self._channel, wire.LENGTH.pack(self._owed))
            self._owed = 0

    # for the owner

    async def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        self._reading = True
        try:
            while True:
                while self._unread:
                    stream, data = self._unread.popleft()
                    yield stream, data
                    self._acknowledge(len(data))
                if self._result.done():
                    self._raise_if_lost()
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._reading = False

    def _raise_if_lost(self) -> None:
        error = self._result.exception()
        if isinstance(error, SandboxLost):
            raise SandboxLost(error.reason)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._stdin_closed or self._result.done():
                raise BrokenPipeError("the command does not read its stdin")
            if self._stdin_window <= 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            piece = view[: min(self._stdin_window, wire.PIECE)]
            self._stdin_window -= len(piece)
            self._client.send(wire.DATA, self._channel, bytes(piece))
            view = view[len(piece) :]

    async def send_eof(self) -> None:
        if not self._result.done():
            self._client.send(wire.EOF, self._channel)

    async def signal(self, number: int) -> None:
        if not self._result.done():
            self._client.send(wire.SIGNAL, self._channel, wire.LENGTH.pack(number))

    async def wait(self) -> ExecResult:
        if not self._reading and not self._discarding:
            self._discarding = True
            while self._unread:
                self._acknowledge(len(self._unread.popleft()[1]))
        await asyncio.wait([self._result])
        return self._result.result()

    async def aclose(self) -> None:
        await self.kill(grace=self._grace)

    async def kill(self, *, grace: float = KILL_GRACE) -> None:
        await finish(self._kill(grace))

    async def _kill(self, grace: float) -> None:
        if self._gone.done():
            return
        if not self._killing:
            self._killing = True
            with contextlib.suppress(SandboxLost):
                self._client.send(wire.KILL, self._channel, wire.message({"grace": grace}))
        patience = self._client.patience
        limit = None if patience is None else grace + patience
        await asyncio.wait([self._gone], timeout=limit)
        if not self._gone.done() and self._client.patience is not None:
            self._client.fail("its guest could not end a command's processes")


def _retrieve(future: asyncio.Future[ExecResult]) -> None:
    """Mark the exception as seen: an owner that only closes a process asks for no result."""
    if not future.cancelled():
        future.exception()
