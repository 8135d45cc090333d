"""How messages get to a runtime and back.

`WebSocketTransport` survives dropped sockets where the server is ours: the run continues
inside, and its frames are replayed from the last one that arrived. No frame is lost or shown twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import websockets

from paddock._concurrency import cancel
from paddock._logs import get_logger
from paddock.errors import ConfigError
from paddock.runtime.remote.messages import is_terminal
from paddock.runtime.remote.wire import MAX_FRAME_OURS, MAX_QUEUE, OURS

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = [
    "ConnectedTransport",
    "ConnectedWebSocketTransport",
    "EndSessionMessageHandler",
    "PersistentTransport",
    "Transport",
    "WebSocketTransport",
    "negotiation",
]

OPEN_TIMEOUT = 60.0
"""Seconds until a connection stands: a sandbox may have to wake up first."""
END_TIMEOUT = 60.0
"""Seconds for the runtime to confirm the end of a session: uploads may be under way."""
RESUME_TIMEOUT = 120.0
"""Seconds for which a run whose socket was dropped is looked for: so long it lives without us."""
FIRST_TRIES = 5
"""Attempts to connect for the first time, where what answered hung up at once."""
MAX_PAUSE = 2.0
"""Seconds between two attempts to connect again, at most."""
ACK_EVERY = 32
"""Acknowledge frames to the server after this many."""

Messages = AsyncGenerator[dict[str, Any], None]
EndSessionMessageHandler = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]

_log = get_logger(__name__)


class Transport(Protocol):
    """Opens a connection for one request. What is put in the queue is sent, the request first."""

    def __call__(self, send_queue: asyncio.Queue[dict[str, Any]]) -> Messages: ...


class ConnectedTransport(Protocol):
    """A connection that serves one request after the other."""

    def request(self, send_queue: asyncio.Queue[dict[str, Any]]) -> Messages: ...

    async def end_session(
        self, on_message: EndSessionMessageHandler | None = None, timeout_s: float = END_TIMEOUT
    ) -> None: ...

    async def close(self) -> None: ...


class PersistentTransport(Protocol):
    """Opens connections that serve many requests."""

    def connect(self) -> AbstractAsyncContextManager[ConnectedTransport]: ...


class _Request:
    """What was sent of one request, to be sent again, and which frames have come."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.first = first
        self.replies: list[dict[str, Any]] = []
        self.last = 0
        self.has_ended = False
        found = first.get("paddock")
        self.run_id: str | None = found.get("run_id") if isinstance(found, dict) else None

    def opening(self) -> list[dict[str, Any]]:
        """Return what a new connection has to begin with."""
        if not self.last:
            return [self.first, *self.replies]  # the run id keeps it from being begun twice
        attach = {"message_type": "attach_message", "run_id": self.run_id, "after": self.last}
        return [attach, *self.replies]

    def takes(self, frame: Mapping[str, Any]) -> bool:
        """Whether a frame belongs to this request and was not seen before; note it."""
        if self.run_id is not None and frame.get("run_id", self.run_id) != self.run_id:
            return False
        number = frame.get("seq")
        if isinstance(number, int):
            if number <= self.last:
                return False
            self.last = number
        if is_terminal(frame):
            self.has_ended = True
        return True


class ConnectedWebSocketTransport:
    """An open connection. One that was dropped is opened again for the next request."""

    def __init__(
        self,
        socket: ClientConnection,
        reopen: Callable[[], Awaitable[ClientConnection]] | None = None,
        *,
        resume_timeout: float = RESUME_TIMEOUT,
    ) -> None:
        self._socket = socket
        self._reopen = reopen
        self._resume_timeout = resume_timeout
        self._negotiated = False

    @property
    def is_ours(self) -> bool:
        """Whether the server said that a client can come back: as it connected, or in a frame."""
        response = self._socket.response
        return self._negotiated or (response is not None and OURS in response.headers)

    async def request(self, send_queue: asyncio.Queue[dict[str, Any]]) -> Messages:
        """Send what is put in the queue, and yield what comes, until the generator is closed.

        It ends when the connection is gone for good. A frame that is not JSON is ``{"raw": ...}``.
        """
        first = await send_queue.get()
        request = _Request(first)
        if self._socket.close_code is not None and not await self._connect_again():
            send_queue.task_done()
            return
        await self._send_opening(request)
        send_queue.task_done()
        sending = asyncio.create_task(self._send_all(send_queue, request))
        try:
            async for frame in self._receive(request):
                yield frame
        finally:
            await cancel(sending)

    async def _receive(self, request: _Request) -> AsyncIterator[dict[str, Any]]:
        while True:
            try:
                text = await self._socket.recv()
            except websockets.ConnectionClosed as error:
                _log.debug("the connection closed: %s", error)
                if not await self._resume(request):
                    return
                continue
            frame = _decoded(text)
            self._negotiated = self._negotiated or "paddock" in frame
            if request.takes(frame):
                await self._acknowledge(request)
                yield frame

    async def _acknowledge(self, request: _Request) -> None:
        if request.run_id is None or not self.is_ours:
            return
        if request.has_ended or request.last % ACK_EVERY == 0:
            message = {"message_type": "ack_message", "run_id": request.run_id, "seq": request.last}
            with contextlib.suppress(websockets.ConnectionClosed):
                await self._socket.send(json.dumps(message))

    async def _send_opening(self, request: _Request) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):  # `recv` finds it, too
            for frame in request.opening():
                await self._socket.send(json.dumps(frame))

    async def _send_all(self, send_queue: asyncio.Queue[dict[str, Any]], request: _Request) -> None:
        while True:
            message = await send_queue.get()
            request.replies.append(message)
            try:
                await self._socket.send(json.dumps(message))
            except websockets.ConnectionClosed:
                pass  # it is sent when the run is resumed
            finally:
                send_queue.task_done()

    # ------------------------------------------------------------------------- resuming

    async def _resume(self, request: _Request) -> bool:
        """Reconnect to a run that continues inside; return False if that is no longer possible."""
        if request.has_ended or request.run_id is None or not self.is_ours:
            return False
        if not await self._connect_again():
            return False
        await self._send_opening(request)
        return True

    async def _connect_again(self) -> bool:
        if self._reopen is None:
            return False
        ends = time.monotonic() + self._resume_timeout
        pause = 0.05
        while True:
            try:
                self._socket = await self._reopen()
            except (OSError, TimeoutError, websockets.WebSocketException) as error:
                _log.debug("no connection yet: %s", error)
                if _is_refusal(error) or time.monotonic() + pause > ends:
                    return False
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE)
            else:
                return True

    # --------------------------------------------------------------------------- the end

    async def end_session(
        self, on_message: EndSessionMessageHandler | None = None, timeout_s: float = END_TIMEOUT
    ) -> None:
        """Say that no request follows, and wait for the confirmation.

        What comes meanwhile is given to `on_message`, and what that returns is sent.
        """
        with contextlib.suppress(TimeoutError, websockets.ConnectionClosed):
            async with asyncio.timeout(timeout_s):
                await self._socket.send(json.dumps({"message_type": "end_session_message"}))
                async for text in self._socket:
                    frame = _decoded(text)
                    if frame.get("message_type") == "end_session_confirm_message":
                        return
                    response = None if on_message is None else await on_message(frame)
                    if response is not None:
                        await self._socket.send(json.dumps(response))

    async def close(self) -> None:
        """Close the connection; the next request opens another one."""
        await self._socket.close()


class WebSocketTransport:
    """Connects to the URL of a runtime. A `token` is sent as a header, beside `headers`."""

    def __init__(
        self,
        ws_url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        open_timeout: float = OPEN_TIMEOUT,
        resume_timeout: float = RESUME_TIMEOUT,
    ) -> None:
        self.ws_url = ws_url
        self._headers = dict(headers or {})
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._open_timeout = open_timeout
        self._resume_timeout = resume_timeout

    async def __call__(self, send_queue: asyncio.Queue[dict[str, Any]]) -> Messages:
        """Serve one request on a connection of its own."""
        async with self.connect() as connected:
            messages = connected.request(send_queue)
            try:
                async for message in messages:
                    yield message
            finally:
                await messages.aclose()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[ConnectedWebSocketTransport]:
        """Open a connection; it is closed in the end, but not as a session is ended."""
        connected = ConnectedWebSocketTransport(
            await self._first(), self._open, resume_timeout=self._resume_timeout
        )
        try:
            yield connected
        finally:
            await connected.close()

    async def _first(self) -> ClientConnection:
        """Connect; where what answered hangs up in the middle of the handshake, try again."""
        for _ in range(FIRST_TRIES - 1):
            with contextlib.suppress(EOFError, ConnectionResetError, websockets.InvalidMessage):
                return await self._open()
        return await self._open()

    async def _open(self) -> ClientConnection:
        try:
            return await websockets.connect(
                self.ws_url,
                additional_headers=self._headers,
                open_timeout=self._open_timeout,
                max_size=MAX_FRAME_OURS,
                max_queue=MAX_QUEUE,
                compression=None,
            )
        except websockets.InvalidURI:  # which shows the URL, and the token in it
            raise ConfigError("ws_url: give the URL of a WebSocket, as ws://HOST:PORT") from None


def negotiation() -> dict[str, Any]:
    """Return what a request says of this client."""
    return {"v": 1, "run_id": str(uuid.uuid4()), "max_frame": MAX_FRAME_OURS}


def _decoded(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"raw": text}


def _is_refusal(error: Exception) -> bool:
    """Whether the server said no, rather than nothing."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in (401, 403)
