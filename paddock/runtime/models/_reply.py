"""One streamed answer over HTTP, read as bytes and put together by whoever knows the protocol.

The providers' packages give authentication, connections, retries and errors. Their streams
are not used: a model of every event costs at least twice what reading it here does, and one
reader meets the same faults in the same way, whoever answers. Knows nothing of what an event
means, and makes no requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import tenacity

from paddock._concurrency import finish
from paddock.runtime.models._answer import BrokenStream
from paddock.runtime.models._sse import SSEParser

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    import httpx2

    from paddock.runtime.core.model import ModelResponse

__all__ = [
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_TIMEOUT",
    "FIRST_WAIT",
    "Answer",
    "Reply",
    "described",
    "encode_json",
    "retrying",
]

DEFAULT_MAX_RETRIES = 8
DEFAULT_TIMEOUT = 60.0
"""Seconds without a byte, or for connecting, until an attempt counts as failed."""
FIRST_WAIT = 0.5
"""Seconds until a broken stream is begun again for the first time, as the clients wait."""

_LONGEST_WAIT = 8.0  # seconds between attempts, as the clients wait themselves
_DRAIN = 0.1  # seconds: the end of the body is sent together with the last event

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Answer(Protocol):
    """What puts the events of one stream together."""

    @property
    def done(self) -> bool:
        """Whether the service has said that nothing more comes."""
        ...

    def add(self, data: bytes) -> str:
        """Take one event; return the text in it. Raises `BrokenStream` or `ModelError`."""
        ...

    def response(self) -> ModelResponse:
        """The whole answer. Raises `BrokenStream` when the service has not finished it."""
        ...


AnswerT = TypeVar("AnswerT", bound=Answer)


class Reply(Generic[AnswerT]):
    """One answer on its way. Entered by who reads it; leaving closes what is still open.

    It is a stream of events, or else `whole`: then `answer` takes the body as it comes.
    """

    def __init__(self, http: httpx2.Response, answer: AnswerT, *, whole: bool = False) -> None:
        self.response: ModelResponse | None = None
        """The whole answer, once `read` has found its end."""
        self.answer = answer
        self._http = http
        self._body = http.aiter_bytes()
        self._cut = _as_it_comes if whole else SSEParser().feed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._http.is_closed:
            await finish(self.aclose())

    async def begin(self) -> str:
        """As `read`, for the first time; closes what is open when it fails."""
        try:
            return await self.read()
        except BaseException:
            await finish(self.aclose())
            raise

    async def read(self) -> str:
        """The next piece of text, and none when the answer is complete.

        Raises `BrokenStream` when it will not be, and `ModelError` when the service says so.
        """
        text = ""
        while not text and self.response is None:
            data = await self._read_body()
            if data is None:
                self.response = self._finished()
            else:
                text = "".join([self.answer.add(event) for event in self._cut(data)])
                if self.answer.done:
                    self.response = self._finished()
                    await self._drain()
        return text

    async def aclose(self) -> None:
        await self._body.aclose()
        await self._http.aclose()

    def _finished(self) -> ModelResponse:
        try:
            return self.answer.response()
        except BrokenStream as error:
            # What is no stream at all, such as a web page, is told by its type.
            kind = self._http.headers.get("content-type")
            raise BrokenStream(f"{error} (content type {kind})") from error

    async def _read_body(self) -> bytes | None:
        try:
            return await anext(self._body, None)
        except Exception as error:
            # Whatever the transport, TLS or decompression raises: the stream is broken.
            raise BrokenStream(f"the stream broke: {described(error)}") from error

    async def _drain(self) -> None:
        """Read the end of the body, without which the connection cannot be used again."""
        with contextlib.suppress(TimeoutError, BrokenStream):
            async with asyncio.timeout(_DRAIN):
                while await self._read_body() is not None:
                    continue


def retrying(
    begin: Callable[_P, Awaitable[_R]], *, max_retries: int, first_wait: float
) -> Callable[_P, Awaitable[_R]]:
    """`begin`, called again after growing waits with jitter while it raises `BrokenStream`."""
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(BrokenStream),
        stop=tenacity.stop_after_attempt(max_retries + 1),
        wait=tenacity.wait_random_exponential(multiplier=first_wait, max=_LONGEST_WAIT),
        reraise=True,
    )(begin)


def encode_json(body: dict[str, Any]) -> bytes:
    """A request's body."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, from a file name that is not UTF-8, would make the body invalid.
    return text.encode("utf-8", errors="replace")


def described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _as_it_comes(data: bytes) -> list[bytes]:
    return [data]
