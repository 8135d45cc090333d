"""Models behind OpenAI's chat completions protocol, whoever serves it.

Authentication, connections, retries and errors are those of the `openai` package. Its
response models are not used: validating every chunk of a stream costs several times what
the rest of a turn does, so the stream is read as bytes and put together in `_answer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import openai  # noqa: TID253 - this is the module that needs it, and is imported when needed
import tenacity

from paddock._concurrency import finish
from paddock.errors import ConfigError, ModelError
from paddock.runtime.models import pricing
from paddock.runtime.models._answer import AnswerBuilder, BrokenStream
from paddock.runtime.models._sse import EventTooLong, SSEParser
from paddock.runtime.models.base import ModelEvent, ModelRequest, ModelResponse, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Self

__all__ = ["DEFAULT_MAX_RETRIES", "DEFAULT_TIMEOUT", "FLEX_TIMEOUT", "OpenAIModel"]

DEFAULT_MAX_RETRIES = 8
DEFAULT_TIMEOUT = 60.0
"""Seconds without a byte, or for connecting, until an attempt counts as failed."""
FLEX_TIMEOUT = 900.0
"""The same for ``service_tier="flex"``, where a request waits until capacity is free."""

_DRAIN = 0.1  # seconds: the end of the body is sent together with the last event
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds between attempts, as the client waits itself


class OpenAIModel:
    """A `ModelClient` for any service that speaks the protocol, and any of its models.

    `base_url` and `api_key` default to ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``. A service
    of one's own may need no key; without `base_url` the lack of one is a `ConfigError`, as is
    a `base_url` that is not one.

    `timeout` is in seconds without a byte. 408, 409, 429, 5xx, a timeout or a lost connection
    before the answer begins are tried again up to `max_retries` times, after the time that
    the service asks for (``Retry-After``) or after growing waits with jitter. A stream that
    breaks before its first text was given out is begun again as often.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> None:
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        api_key = (api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        if base_url and not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"base_url {base_url!r} does not begin with http:// or https://")
        if not api_key and not base_url:
            raise ConfigError(
                "no API key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a service that needs none"
            )
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # the client insists on one
            timeout=timeout,
            max_retries=max_retries,
        )
        self._begin = tenacity.retry(
            retry=tenacity.retry_if_exception_type(BrokenStream),
            stop=tenacity.stop_after_attempt(max_retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            reraise=True,
        )(self._begin_once)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ModelClient.stream`."""
        try:
            reply, text = await self._begin(request, _encode(request))
            async with reply:
                while text:
                    yield TextDelta(text=text)
                    text = await reply.read()
                response = reply.response
                assert response is not None
        except openai.OpenAIError as error:
            raise _as_model_error(error) from error
        except (BrokenStream, EventTooLong) as error:
            raise ModelError(f"API error (after retries): {error}") from error
        yield await _priced(response, request)

    async def aclose(self) -> None:
        """See `ModelClient.aclose`."""
        await self._client.close()

    async def _begin_once(self, request: ModelRequest, body: bytes) -> tuple[_Reply, str]:
        """Send the request and wait for the first text, or for the end if there is none."""
        timeout = FLEX_TIMEOUT if request.service_tier == "flex" else self._client.timeout
        stream = await self._client.post(
            "/chat/completions",
            cast_to=object,
            content=body,
            options={"timeout": timeout},
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        reply = _Reply(stream)
        try:
            return reply, await reply.read()
        except BaseException:
            await finish(reply.aclose())
            raise


class _Reply:
    """One answer on its way. Entered by who reads it; leaving closes what is still open."""

    def __init__(self, stream: openai.AsyncStream[object]) -> None:
        self.response: ModelResponse | None = None
        """The whole answer, once `read` has found its end."""
        self._http = stream.response
        self._body = stream.response.aiter_bytes()
        self._events = SSEParser()
        self._answer = AnswerBuilder()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._http.is_closed:
            await finish(self.aclose())

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
                text = "".join([self._answer.add(event) for event in self._events.feed(data)])
                if self._answer.done:
                    self.response = self._finished()
                    await self._drain()
        return text

    async def aclose(self) -> None:
        await self._body.aclose()
        await self._http.aclose()

    def _finished(self) -> ModelResponse:
        try:
            return self._answer.response()
        except BrokenStream as error:
            # What is no stream at all, such as a web page, is told by its type.
            kind = self._http.headers.get("content-type")
            raise BrokenStream(f"{error} (content type {kind})") from error

    async def _read_body(self) -> bytes | None:
        try:
            return await anext(self._body, None)
        except Exception as error:
            # Whatever the transport, TLS or decompression raises: the stream is broken.
            raise BrokenStream(f"the stream broke: {_described(error)}") from error

    async def _drain(self) -> None:
        """Read the end of the body, without which the connection cannot be used again."""
        with contextlib.suppress(TimeoutError, BrokenStream):
            async with asyncio.timeout(_DRAIN):
                while await self._read_body() is not None:
                    continue


def _encode(request: ModelRequest) -> bytes:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": request.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = request.tools
    if request.response_format is not None:
        body["response_format"] = request.response_format
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, from a file name that is not UTF-8, would make the body invalid.
    return text.encode("utf-8", errors="replace")


async def _priced(response: ModelResponse, request: ModelRequest) -> ModelResponse:
    cost = await pricing.price(request.model, response.usage, service_tier=request.service_tier)
    return replace(response, usage=replace(response.usage, cost_usd=cost)) if cost else response


def _as_model_error(error: openai.OpenAIError) -> ModelError:
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = body.get("message") or error.message
        return ModelError(
            f"API error {error.status_code} (after retries): {message}", status=error.status_code
        )
    if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        return ModelError(f"API error (after retries): {_described(error.__cause__)}")
    return ModelError(f"API error (after retries): {error}")


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
