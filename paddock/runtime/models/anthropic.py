"""Anthropic's models, by the Messages API.

Authentication, connections, retries and errors are those of the `anthropic` package. The
stream is read as bytes by `_reply` and put together in `_message_answer`; the conversation is
told by `_messages`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, MissingDependency, ModelError
from paddock.runtime.core.model import ModelEvent, ModelRequest, TextDelta
from paddock.runtime.models import pricing
from paddock.runtime.models._account import account
from paddock.runtime.models._answer import BrokenStream
from paddock.runtime.models._message_answer import MessageBuilder
from paddock.runtime.models._messages import mark_for_cache, system_blocks, tool_params, turns
from paddock.runtime.models._reply import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    FIRST_WAIT,
    Reply,
    described,
    encode_json,
    retrying,
)
from paddock.runtime.models._sse import EventTooLong
from paddock.runtime.models._thoughts import Thoughts

try:
    import anthropic
except ImportError as error:
    raise MissingDependency(error.name or "anthropic", "anthropic") from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from paddock.runtime.models._messages import Block

__all__ = ["MAX_TOKENS", "AnthropicModel"]

MAX_TOKENS = 64_000
"""Tokens of one answer, thinking included: the service insists on a bound, and all models but
those of `_WRITES_LESS` write as much. It bills what is written, not what is allowed."""

_WRITES_LESS = (
    (re.compile(r"claude-3-(opus|sonnet|haiku)"), 4_096),
    (re.compile(r"claude-3-5-"), 8_192),
    (re.compile(r"claude-(opus-4(-[01])?|4-opus)(-\d{8})?$"), 32_000),
)
"""The most that older families write, and more is an error: the table of Anthropic's page
"Models overview", of May 2025 for 3 to 4 and of its later editions for Opus 4.1."""

_ANSWER_ROOM = 8_192
"""Tokens that are left for the answer at least: a budget has to be less than all."""

_BUDGETS = {
    "minimal": 1_024,
    "low": 4_096,
    "medium": 12_288,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 49_152,
}
"""Tokens of thinking for each effort, of models that take a number and no effort."""

_THINKS_NOT = re.compile(r"claude-3-(5-|opus|sonnet|haiku)")
"""Models up to 3.5: those of Anthropic's page "Extended thinking" begin with 3.7."""

_THINKS_BY_BUDGET = re.compile(r"claude-(3|[a-z]+-4(-[0-5])?(-\d{8})?$)")
"""Models up to 4.5 that think. Those after them decide for themselves, guided by the effort."""

_EFFORTS = {"minimal": "low"}  # what is called otherwise here
_TIERS = {"default": "standard_only", "priority": "auto"}

_JSON_ONLY = "Answer with one JSON object and nothing else: no other text, no code fence."


class AnthropicModel:
    """A `ModelClient` for Anthropic's models, and for services that speak their protocol.

    `base_url` (without ``/v1``) and `api_key` default to ``ANTHROPIC_BASE_URL`` and
    ``ANTHROPIC_API_KEY``; after them comes what the `anthropic` package finds by itself. A
    service of one's own may need no key; without `base_url` the lack of one is a
    `ConfigError`, as is a `base_url` that is not one.

    `timeout` and `max_retries` are as in `OpenAIModel`. A stream that an overloaded service
    ends before its first text was given out is begun again too.

    What a model thinks is never text, and goes back to it with the results of the calls that
    it led to. The system prompt, the tools and the conversation are marked for the service's
    prompt cache.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> None:
        base_url, api_key = account("ANTHROPIC", base_url, api_key)
        self._client = _connect(base_url, api_key, timeout, max_retries)
        self._thoughts: defaultdict[str, Thoughts] = defaultdict(Thoughts)  # of each model
        self._begin = retrying(self._begin_once, max_retries=max_retries, first_wait=FIRST_WAIT)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ModelClient.stream`."""
        thoughts = self._thoughts[request.model]
        try:
            reply, text = await self._begin(encode_json(_body(request, thoughts)))
            async with reply:
                while text:
                    yield TextDelta(text=text)
                    text = await reply.read()
                response = reply.response
                assert response is not None
        except anthropic.AnthropicError as error:
            raise _as_model_error(error) from error
        except (BrokenStream, EventTooLong) as error:
            raise ModelError(f"API error (after retries): {error}") from error
        thoughts.keep(response, reply.answer.blocks)
        yield await pricing.priced(response, request)

    async def aclose(self) -> None:
        """See `ModelClient.aclose`."""
        await self._client.close()

    async def _begin_once(self, body: bytes) -> tuple[Reply[MessageBuilder], str]:
        """Send the request and wait for the first text, or for the end if there is none."""
        stream = await self._client.post(
            "/v1/messages",
            cast_to=object,
            content=body,
            stream=True,
            stream_cls=anthropic.AsyncStream[object],
        )
        reply = Reply(stream.response, MessageBuilder())
        return reply, await reply.begin()


def _connect(
    base_url: str | None, api_key: str, timeout: float, max_retries: int
) -> anthropic.AsyncAnthropic:
    try:
        client = anthropic.AsyncAnthropic(
            base_url=base_url and base_url.rstrip("/").removesuffix("/v1"),
            api_key=api_key or None,
            timeout=timeout,
            max_retries=max_retries,
        )
    except anthropic.AnthropicError as error:  # credentials on the disk that are not usable
        raise ConfigError(f"no API key, and {error}") from error
    if client.api_key or client.auth_token or client.credentials:
        return client
    if not base_url:
        raise ConfigError(
            "no API key: set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL for a service that needs none"
        )
    return client.copy(api_key="none")  # the client insists on one


def _body(request: ModelRequest, thoughts: Thoughts) -> dict[str, Any]:
    system = system_blocks(request.messages)
    tools = tool_params(request.tools)
    messages = turns(request.messages, thoughts.restore)
    output: Block = {}
    if request.response_format is not None:
        _add_format(request.response_format, output, system)
    mark_for_cache(system or tools, messages)
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": _most_tokens(request.model),
        "messages": messages,
        "stream": True,
    }
    if request.reasoning_effort is not None:
        thinking = _thinking(request, request.reasoning_effort, thoughts, output)
        body |= {"thinking": thinking} if thinking else {}
    if request.service_tier is not None:
        body["service_tier"] = _TIERS.get(request.service_tier, request.service_tier)
    given = {"system": system, "tools": tools, "output_config": output}
    return body | {name: value for name, value in given.items() if value}


def _most_tokens(model: str) -> int:
    """What `model` may write at a time."""
    less = (tokens for family, tokens in _WRITES_LESS if family.match(model))
    return next(less, MAX_TOKENS)


def _thinking(
    request: ModelRequest, effort: str, thoughts: Thoughts, output: Block
) -> Block | None:
    """How the model is to think; what it is told as an effort goes into `output`."""
    if _THINKS_NOT.match(request.model):
        return None
    if effort == "none":
        return {"type": "disabled"}
    if not _THINKS_BY_BUDGET.match(request.model):
        output["effort"] = _EFFORTS.get(effort, effort)
        return {"type": "adaptive"}
    if effort not in _BUDGETS:
        raise ModelError(f"reasoning_effort {effort!r} is not one of none, {', '.join(_BUDGETS)}")
    if not thoughts.are_whole(request.messages):
        return None  # a turn that goes on has to have begun with thinking: it ends without
    most = _most_tokens(request.model) - _ANSWER_ROOM
    return {"type": "enabled", "budget_tokens": min(_BUDGETS[effort], most)}


def _add_format(response_format: Mapping[str, Any], output: Block, system: list[Block]) -> None:
    """Ask for `response_format`: a schema is the service's to hold, mere JSON the prompt's."""
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            try:
                output["format"] = {
                    "type": "json_schema",
                    "schema": anthropic.transform_schema(schema),
                }
            except ValueError as error:
                raise ModelError(f"response_format: {error}") from error
        case {"type": "json_object"}:
            system.append({"type": "text", "text": _JSON_ONLY})
        case {"type": "text"}:
            pass
        case _:
            raise ModelError(f"response_format: Anthropic's models take no {response_format}")


def _as_model_error(error: anthropic.AnthropicError) -> ModelError:
    if isinstance(error, anthropic.APIStatusError):
        message = error.api_message or error.message
        return ModelError(
            f"API error {error.status_code} (after retries): {message}", status=error.status_code
        )
    if isinstance(error, anthropic.APIConnectionError) and error.__cause__ is not None:
        return ModelError(f"API error (after retries): {described(error.__cause__)}")
    return ModelError(f"API error (after retries): {error}")
