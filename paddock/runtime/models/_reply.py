"""One answer over HTTP, read as bytes and assembled by the protocol's parser.

The providers' packages give authentication and connections. Their streams are not used: a
model of every event costs at least twice what reading it here does, and one reader meets the
same faults in the same way for every service. Knows nothing of what an event means, and makes
no requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pydantic_core

from paddock._concurrency import finish
from paddock.runtime.models._failure import BrokenStream, Failure
from paddock.runtime.models._sse import EventTooLong, SSEParser

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import httpx2

    from paddock.runtime.core.model import ModelResponse, Usage
    from paddock.runtime.models._building import Builder

__all__ = ["Reply", "described", "encode_json"]

MAX_BODY = 16 * 1024 * 1024
"""Bytes of an answer in one piece, as of one event of a stream."""

_DRAIN = 0.1  # seconds: the end of the body is sent together with the last event


class Reply:
    """One answer on its way. Its reader enters it; leaving closes what is still open.

    It is a stream of events, or JSON in one piece: what comes first tells, since services
    send each under the content type of the other. `first` bounds the wait for the beginning
    of the answer, `idle` each wait after it, in seconds.
    """

    def __init__(
        self, http: httpx2.Response, answer: Builder, *, first: float, idle: float
    ) -> None:
        self.response: ModelResponse | None = None
        """The whole answer, once `read` has found its end."""
        self.headers = http.headers
        self._answer = answer
        self._http = http
        encoded = "content-encoding" in http.headers
        self._body = http.aiter_bytes() if encoded else http.aiter_raw()
        self._limit = _WaitLimit()
        self._first, self._idle = first, idle
        self._events = SSEParser()
        self._whole: bytearray | None = None
        self._is_empty = True
        self._failure: Failure | None = None
        """An error that came together with the text before it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._limit.close()
        if not self._http.is_closed:
            await finish(self.aclose())

    def take_thought(self) -> str:
        """Return what the model has thought since this was called before."""
        return self._answer.take_thought()

    async def read(self) -> str:
        """Return the next piece of text. Without one, there is a thought to take, or the answer is
        complete.

        Raises `Failure` if it will not be.
        """
        if self._failure is not None:
            raise self._failure
        text = ""
        while not text and not self._answer.has_thought and self.response is None:
            data = await self._read_body()
            text = self._end() if data is None else self._take(data)
            if data is None or self._answer.done:
                self._finish(text)
            if data is not None and self._answer.done:
                await self._drain()
        return text

    @property
    def counted(self) -> Usage:
        """What the service has counted so far."""
        return self._answer.counted

    async def aclose(self) -> None:
        self._limit.close()
        await self._body.aclose()
        await self._http.aclose()

    def _take(self, data: bytes) -> str:
        if self._is_empty and (start := data.lstrip()):
            self._is_empty = False
            self._whole = bytearray() if start[:1] in (b"{", b"[") else None
        if self._whole is None:
            try:
                events = self._events.feed(data)
            except EventTooLong as error:
                raise Failure(str(error)) from error
            return self._added(events)
        self._whole += data
        if len(self._whole) > MAX_BODY:
            raise Failure(f"the answer has more than {MAX_BODY} bytes")
        return ""

    def _end(self) -> str:
        """Take what is left when the body has ended."""
        events = self._events.end() if self._whole is None else _texts_in(bytes(self._whole))
        return self._added(events)

    def _added(self, events: Sequence[bytes]) -> str:
        """Return the text in `events`, as far as there is no error among them."""
        text = ""
        for event in events:
            try:
                text += self._answer.add(event)
            except Failure as failure:
                self._fail(failure, text)
                break
        return text

    def _finish(self, text: str) -> None:
        """Take the whole answer; `text` is what of it is given out now."""
        if self._failure is not None:
            return
        try:
            self.response = self._answer.response()
        except BrokenStream as error:
            # An answer that is not a stream, such as a web page, shows in its content type.
            kind = self._http.headers.get("content-type")
            failure = BrokenStream(f"{error} (content type {kind})")
            failure.__cause__ = error
            self._fail(failure, text)

    def _fail(self, failure: Failure, text: str) -> None:
        """Raise `failure`, but not before `text` is given out, which came together with it."""
        if not text:
            raise failure
        self._failure = failure

    async def _read_body(self) -> bytes | None:
        limit = self._idle if self._answer.begun else self._first
        self._limit.begin(limit)
        try:
            return await anext(self._body, None)
        except asyncio.CancelledError:
            if self._limit.is_over():
                raise _silence(limit) from None
            raise
        except Exception as error:
            if "ReadTimeout" in type(error).__name__:
                raise _silence(limit) from error
            # Whatever else the transport, TLS or decompression raises: the stream is broken.
            raise BrokenStream(f"the stream broke: {described(error)}") from error
        finally:
            self._limit.end()

    async def _drain(self) -> None:
        """Read the end of the body, without which the connection cannot be used again."""
        with contextlib.suppress(TimeoutError, Failure):
            async with asyncio.timeout(_DRAIN):
                while await self._read_body() is not None:
                    continue


class _WaitLimit:
    """Bounds waits that come one after the other, as `asyncio.timeout` does, by one timer for all:
    a timer for each piece of a stream costs more than to read the piece."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._until = 0.0
        self._cancelling = 0
        self._is_spent = False

    def begin(self, limit: float) -> None:
        """Cancel the caller's task if it does not call `end` within `limit` seconds."""
        task = asyncio.current_task()
        assert task is not None, "only tasks can wait"
        self._waiting, self._cancelling = task, task.cancelling()
        self._until = self._loop.time() + limit
        if self._timer is None or self._timer.when() > self._until:
            self._set_timer()

    def end(self) -> None:
        if self._is_spent and self._waiting is not None:  # another error came of the cancellation
            self._waiting.uncancel()
        self._waiting = None

    def is_over(self) -> bool:
        """Whether the task was cancelled for its wait, and for nothing else. Asked once."""
        if not self._is_spent or self._waiting is None:
            return False
        self._is_spent = False
        return self._waiting.uncancel() <= self._cancelling

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.close()
        self._timer = self._loop.call_at(self._until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next wait sets it anew
        if self._loop.time() < self._until:
            self._set_timer()
        else:
            self._is_spent = True
            self._waiting.cancel()


def encode_json(body: dict[str, Any]) -> bytes:
    """A request's body."""
    try:
        return pydantic_core.to_json(body)
    except ValueError:
        pass  # it has half a surrogate pair, or what only the other one can encode
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, from a file name that is not UTF-8, would make the body invalid.
    return text.encode("utf-8", errors="replace")


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _silence(limit: float) -> Failure:
    """That nothing came for so long. It is not asked again: the model may think, and be paid."""
    return Failure(
        f"timeout: the service sent nothing for {limit:g} s; `timeout` sets how long to wait"
    )


def _texts_in(body: bytes) -> list[bytes]:
    """A body in one piece, or its lines where each is a JSON text of its own."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return body.splitlines()
    return [body]
