"""Models behind OpenAI's chat completions protocol, whoever serves it.

Authentication, connections, retries and errors are those of the `openai` package. The
stream is read as bytes by `_reply` and put together in `_answer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai  # noqa: TID253 - this is the module that needs it, and is imported when needed

from paddock.errors import ConfigError, ModelError
from paddock.runtime.core.model import ModelEvent, ModelRequest, TextDelta
from paddock.runtime.models import pricing
from paddock.runtime.models._account import account
from paddock.runtime.models._answer import AnswerBuilder, BrokenStream, WholeAnswer
from paddock.runtime.models._reply import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    Reply,
    described,
    encode_json,
    retrying,
)
from paddock.runtime.models._reply import FIRST_WAIT as _FIRST_WAIT
from paddock.runtime.models._sse import EventTooLong

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["DEFAULT_MAX_RETRIES", "DEFAULT_TIMEOUT", "FLEX_TIMEOUT", "OpenAIModel"]

FLEX_TIMEOUT = 900.0
"""As `DEFAULT_TIMEOUT`, for ``service_tier="flex"``, where requests wait for capacity."""


class OpenAIModel:
    """A `ModelClient` for any service that speaks the protocol, and any of its models.

    `base_url` and `api_key` default to ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``. A service
    of one's own may need no key; without `base_url` the lack of one is a `ConfigError`, as is
    a `base_url` that is not one.

    `timeout` is in seconds without a byte. 408, 409, 429, 5xx, a timeout or a lost connection
    before the answer begins are tried again up to `max_retries` times, after the time that
    the service asks for (``Retry-After``) or after growing waits with jitter. A stream that
    breaks before its first text was given out is begun again as often.

    `streams_tools` False asks for answers in one piece where there are tools, of services that
    stream no calls, or stream them wrong; each has `timeout` to begin. The default is True, but
    False where the address is one of Cerebras.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        streams_tools: bool | None = None,
    ) -> None:
        base_url, api_key = account("OPENAI", base_url, api_key)
        if not api_key and not base_url:
            raise ConfigError(
                "no API key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a service that needs none"
            )
        if streams_tools is None:
            streams_tools = "cerebras" not in (base_url or "").lower()
        self.streams_tools = streams_tools
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # the client insists on one
            timeout=timeout,
            max_retries=max_retries,
        )
        self._begin = retrying(self._begin_once, max_retries=max_retries, first_wait=_FIRST_WAIT)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ModelClient.stream`."""
        try:
            whole = bool(request.tools) and not self.streams_tools
            reply, text = await self._begin(request, _encode(request, whole=whole), whole=whole)
            async with reply:
                while text:
                    yield TextDelta(text=text)
                    text = await reply.read()
                response = reply.response
                assert response is not None
            if whole and response.text:
                yield TextDelta(text=response.text)
        except openai.OpenAIError as error:
            raise _as_model_error(error) from error
        except (BrokenStream, EventTooLong) as error:
            raise ModelError(f"API error (after retries): {error}") from error
        yield await pricing.priced(response, request)

    async def aclose(self) -> None:
        """See `ModelClient.aclose`."""
        await self._client.close()

    async def _begin_once(
        self, request: ModelRequest, body: bytes, *, whole: bool
    ) -> tuple[Reply[AnswerBuilder | WholeAnswer], str]:
        """Send the request and wait for the first text, or for the end if there is none."""
        timeout = FLEX_TIMEOUT if request.service_tier == "flex" else self._client.timeout
        stream = await self._client.post(
            "/chat/completions",
            cast_to=object,
            content=body,
            options={"timeout": timeout},
            stream=True,  # in any case we read the body ourselves
            stream_cls=openai.AsyncStream[object],
        )
        answer = WholeAnswer() if whole else AnswerBuilder()
        reply = Reply(stream.response, answer, whole=whole)
        return reply, await reply.begin()


def _encode(request: ModelRequest, *, whole: bool) -> bytes:
    body: dict[str, Any] = {"model": request.model, "messages": request.messages}
    if not whole:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.tools:
        body["tools"] = request.tools
    if request.response_format is not None:
        body["response_format"] = request.response_format
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    return encode_json(body)


def _as_model_error(error: openai.OpenAIError) -> ModelError:
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = body.get("message") or error.message
        return ModelError(
            f"API error {error.status_code} (after retries): {message}", status=error.status_code
        )
    if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
        return ModelError(f"API error (after retries): {described(error.__cause__)}")
    return ModelError(f"API error (after retries): {error}")
