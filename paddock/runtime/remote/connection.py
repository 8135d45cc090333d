"""One connection of a client: what it sends is read, and the frames of its run are written."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from websockets.exceptions import ConnectionClosed

from paddock._concurrency import cancel
from paddock._logs import get_logger
from paddock.runtime.remote.failures import busy
from paddock.runtime.remote.messages import (
    AckMessage,
    ArtifactUploadFailedMessage,
    ArtifactUploadResponseMessageInterface,
    AttachMessage,
    CancelMessage,
    CommandExecutionMessage,
    EndSessionMessage,
    InvocationMessage,
)
from paddock.runtime.remote.wire import (
    BadFrame,
    Closing,
    Incoming,
    Peer,
    UnknownMessage,
    encode,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from websockets.asyncio.server import ServerConnection

    from paddock.runtime.remote.run import Run
    from paddock.runtime.remote.settings import ServerSettings

__all__ = ["Connection", "Runs"]

MAX_QUEUED = 8
"""Requests of a client that negotiated which wait for the one that runs."""
MAX_BAD = 1000
"""Frames of one connection that are no messages, before it is closed."""

_log = get_logger(__name__)


class Runs(Protocol):
    """What connections want of their server: the runs, of all of them."""

    settings: ServerSettings
    is_stopping: bool

    def begin(self, request: InvocationMessage | CommandExecutionMessage, peer: Peer) -> Run:
        """Start a run."""

    def find(self, run_id: str) -> Run | None:
        """Return a run that is known still."""

    async def find_ending(self, run_id: str) -> tuple[int, str] | None:
        """Return the number and the text of the last frame of a run that has ended."""


class Connection:
    """Serves one socket until it closes."""

    def __init__(self, server: Runs, socket: ServerConnection) -> None:
        self._server = server
        self._socket = socket
        self._peer: Peer | None = None
        self._run: Run | None = None
        self._queued: deque[InvocationMessage | CommandExecutionMessage] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._requests = 0
        self._bad = 0
        self._is_ending = False

    async def serve(self) -> Run | None:
        """Read frames until the client leaves; return the run that it leaves behind."""
        try:
            async for frame in self._socket:
                await self._take(frame)
        except ConnectionClosed:
            _log.debug("a connection broke")
        finally:
            self._stop_lingering()
            if self._writer is not None:
                await cancel(self._writer)
            _log.debug("closed by the client: %s", self._socket.close_code)
        return self._run

    async def close(self, code: int, reason: str = "") -> None:
        """Close the socket once what was written has left."""
        if self._writer is not None and self._run is not None and self._run.ended:
            await asyncio.wait([self._writer], timeout=self._server.settings.linger)
        await self._socket.close(code, reason)

    # --------------------------------------------------------------------------- reading

    async def _take(self, frame: str | bytes) -> None:
        try:
            message, found = read(frame)
        except UnknownMessage as error:
            if self._is_busy:
                _log.info("ignored: %s", error)
            else:
                await self._refuse(str(error), "unknown_message")
        except BadFrame as error:
            await self._refuse(str(error), "bad_message")
        else:
            await self._handle(message, found)

    async def _refuse(self, error: str, code: str) -> None:
        await self._send_error(error, {"error_name": "Error", "code": code})
        self._bad += 1
        if self._bad > MAX_BAD:
            await self._socket.close(1008, "too many frames that are no messages")

    async def _send_error(self, error: str, metadata: Mapping[str, Any]) -> None:
        frame = {"message_type": "error_message", "error": error, "metadata": dict(metadata)}
        await self._socket.send(encode(frame))

    @property
    def _is_busy(self) -> bool:
        return self._run is not None and not self._run.ended

    async def _handle(self, message: Incoming, found: Mapping[str, Any]) -> None:
        match message:
            case InvocationMessage() | CommandExecutionMessage():
                await self._request(message, found)
            case ArtifactUploadResponseMessageInterface() | ArtifactUploadFailedMessage():
                self._answer(message)
            case CancelMessage():
                self._cancel()
            case EndSessionMessage():
                await self._end_session()
            case AckMessage():
                self._acknowledge(message)
            case AttachMessage():
                await self._attach(message.run_id, message.after)
            case _:
                assert_never(message)

    def _answer(
        self, message: ArtifactUploadResponseMessageInterface | ArtifactUploadFailedMessage
    ) -> None:
        if self._run is None or not self._run.artifacts.uploads.answer(message):
            _log.info("ignored: an answer about an artifact that was not asked for")

    def _cancel(self) -> None:
        self._queued.clear()
        if self._run is not None:
            self._run.cancel()

    def _acknowledge(self, message: AckMessage) -> None:
        if self._run is not None and self._run.id == message.run_id:
            self._run.frames.log.acknowledge(message.seq)

    async def _request(
        self, message: InvocationMessage | CommandExecutionMessage, found: Mapping[str, Any]
    ) -> None:
        self._stop_lingering()
        self._requests += 1
        if self._peer is None or message.paddock is not None:
            self._peer = Peer.of(message, found)
        if message.paddock is not None and await self._resume(message.paddock.run_id):
            return
        if self._server.is_stopping:
            await self._send_error("the server stops", {"error_name": "Error", "code": "stopping"})
            if not self._is_busy:
                await self._socket.close(1008, "the server stops")
        elif not self._is_busy:
            self._begin(message)
        elif self._peer.negotiated and len(self._queued) < MAX_QUEUED:
            self._queued.append(message)
        elif self._run is not None:
            await self._send_error(*busy(self._run.id))

    def _begin(self, message: InvocationMessage | CommandExecutionMessage) -> None:
        assert self._peer is not None
        self._follow(self._server.begin(message, self._peer), 0)

    async def _resume(self, run_id: str) -> bool:
        """Continue with a run that was begun by an earlier request of the same id."""
        run = self._server.find(run_id)
        if run is None and await self._server.find_ending(run_id) is None:
            return False
        await self._attach(run_id, 0)
        return True

    async def _attach(self, run_id: str, after: int) -> None:
        if self._is_busy and self._run is not None and self._run.id != run_id:
            await self._send_error(*busy(self._run.id))
            return
        run = self._server.find(run_id)
        if run is not None:
            self._peer = run.frames.peer
            self._follow(run, after)
            return
        ending = await self._server.find_ending(run_id)
        if ending is not None:
            await self._socket.send(ending[1])
            return
        metadata = {"error_name": "Error", "code": "run_unknown"}
        await self._send_error(f"run {run_id[:36]} is not known here", metadata)

    async def _end_session(self) -> None:
        self._stop_lingering()
        self._is_ending = True
        self._queued.clear()
        if self._run is not None and self._run.is_working:
            self._run.cancel()
        if self._writer is None or self._writer.done():
            await self._confirm_end()

    async def _confirm_end(self) -> None:
        await self._socket.send(encode({"message_type": "end_session_confirm_message"}))
        await self._socket.close(1000)

    # --------------------------------------------------------------------------- writing

    def _follow(self, run: Run, after: int) -> None:
        if run.follower is not None:
            run.follower.give_up()
        run.follower, run.sent = self, after
        before, self._run = self._writer, run
        self._writer = asyncio.create_task(self._write(run, after, before))

    def give_up(self) -> None:
        """Stop writing: the run's client has another connection."""
        self._run = None
        if self._writer is not None:
            self._writer.cancel()

    async def _write(self, run: Run, after: int, before: asyncio.Task[None] | None) -> None:
        """Write the frames of `run`, from the one `after` that number on, to its end.

        The writer `before` has first to finish with the end of another run.
        """
        if before is not None:
            await asyncio.wait([before])
        try:
            while True:
                run.changed.clear()
                while (found := run.frames.log.after(after)) is not None:
                    after, text = found
                    await self._socket.send(text)
                    run.written(after)
                if run.ended:
                    break
                await run.changed.wait()
            if self._run is run:
                await self._after_terminal()
        except ConnectionClosed:
            _log.debug("run %s: its client is gone", run.id)

    async def _after_terminal(self) -> None:
        peer = self._peer
        if self._queued:
            message = self._queued.popleft()
            self._begin(message)
        elif self._is_ending:
            await self._confirm_end()
        elif peer is None or peer.closing is Closing.NEVER:
            return
        elif peer.closing is Closing.AT_ONCE:
            await self._socket.close(1000)
        elif self._requests == 1:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self._server.settings.linger, self._hang_up)

    def _hang_up(self) -> None:
        self._writer = asyncio.create_task(self._socket.close(1000))

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
