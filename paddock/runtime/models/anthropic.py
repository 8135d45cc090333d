"""Anthropic's models, by the Messages API.

Authentication and connections are those of the `anthropic` package. The stream is read as
bytes by `_reply` and put together in `_message_answer`; `_messages` translates the
conversation, and `_thoughts` what the model gets back of its thinking.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, MissingDependency, ModelError
from paddock.runtime.models._content import is_answered
from paddock.runtime.models._endpoint import Endpoint, account, connection_settings
from paddock.runtime.models._message_answer import MessageBuilder
from paddock.runtime.models._messages import mark_for_cache, system_blocks, tool_params, turns
from paddock.runtime.models._service import (
    DEFAULT_IDLE_TIMEOUT,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    ServiceModel,
)
from paddock.runtime.models._thoughts import are_whole, with_thoughts

try:
    import anthropic
except ImportError as error:
    raise MissingDependency(error.name or "anthropic", "anthropic") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx2

    from paddock.runtime.core.model import ModelRequest
    from paddock.runtime.models._messages import Block
    from paddock.runtime.models._service import Connection

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


class AnthropicModel(ServiceModel):
    """A `ModelClient` for Anthropic's models, and for services that speak their protocol.

    `base_url` (without ``/v1``) and `api_key` default to ``ANTHROPIC_BASE_URL`` and
    ``ANTHROPIC_API_KEY``; after them comes what the `anthropic` package finds by itself. A
    service of one's own may need no key; without `base_url` the lack of one is a
    `ConfigError`, as is an invalid `base_url`.

    The times and `max_retries` are as in `OpenAIModel`.

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
        idle_timeout: float = DEFAULT_IDLE_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
    ) -> None:
        base_url, api_key = account("ANTHROPIC", base_url, api_key)
        endpoint = Endpoint(
            service="anthropic",
            base_url=base_url and base_url.rstrip("/").removesuffix("/v1"),
            api_key=api_key,
            environment=connection_settings("ANTHROPIC_"),
        )
        if not api_key and not base_url:
            _make_client(endpoint, None)  # raises if the package finds no account either
        super().__init__(
            endpoint, timeout=timeout, idle_timeout=idle_timeout, max_retries=max_retries
        )

    def _make_client(self, http: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
        return _make_client(self.endpoint, http)

    async def _post(
        self,
        connection: Connection,
        request: ModelRequest,
        body: Callable[[], bytes],
        limits: httpx2.Timeout,
    ) -> httpx2.Response:
        options: dict[str, Any] = {"timeout": limits}
        if request.extra_headers:
            options["headers"] = dict(request.extra_headers)
        try:
            stream = await connection.client.post(
                "/v1/messages",
                cast_to=object,
                content=body(),
                options=options,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
        except anthropic.APIStatusError as error:
            return error.response
        response: httpx2.Response = stream.response
        return response

    def _answer(self, request: ModelRequest) -> MessageBuilder:
        return MessageBuilder(request.model)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        system = system_blocks(request.messages)
        tools = tool_params(request.tools)
        restore = functools.partial(with_thoughts, service=self._name, model=request.model)
        messages = turns(request.messages, restore)
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
            thinking = self._thinking(request, request.reasoning_effort, output)
            body |= {"thinking": thinking} if thinking else {}
        if request.service_tier is not None:
            body["service_tier"] = _TIERS.get(request.service_tier, request.service_tier)
        given = {"system": system, "tools": tools, "output_config": output}
        body |= {name: value for name, value in given.items() if value}
        return body | _options(request) | dict(request.extra_body)

    def _thinking(self, request: ModelRequest, effort: str, output: Block) -> Block | None:
        """Return how the model shall think; an effort goes into `output`."""
        if _THINKS_NOT.match(request.model):
            return None
        if effort == "none":
            return {"type": "disabled"}
        if not _THINKS_BY_BUDGET.match(request.model):
            output["effort"] = _EFFORTS.get(effort, effort)
            return {"type": "adaptive"}
        if effort not in _BUDGETS:
            raise ModelError(
                f"reasoning_effort {effort!r} is not one of none, {', '.join(_BUDGETS)}"
            )
        if not are_whole(request.messages, service=self._name, model=request.model):
            return None  # a turn that continues must have begun with thinking: it ends without
        most = _most_tokens(request.model) - _ANSWER_ROOM
        return {"type": "enabled", "budget_tokens": min(_BUDGETS[effort], most)}


def _make_client(endpoint: Endpoint, http: httpx2.AsyncClient | None) -> anthropic.AsyncAnthropic:
    try:
        client = anthropic.AsyncAnthropic(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key or None,
            max_retries=0,
            http_client=http,
        )
    except anthropic.AnthropicError as error:  # credentials on the disk that are not usable
        raise ConfigError(f"no API key, and {error}") from error
    if client.api_key or client.auth_token or client.credentials:
        return client
    if not endpoint.base_url:
        raise ConfigError(
            "no API key: set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL for a service that needs none"
        )
    return client.copy(api_key="none")  # the client insists on one


def _options(request: ModelRequest) -> dict[str, Any]:
    """The options of chat completions, as the Messages API has them."""
    given = dict(request.options)
    if "seed" in given:
        raise ModelError("seed: Anthropic's models take none")
    stop = given.pop("stop", None)
    choice, parallel = given.pop("tool_choice", None), given.pop("parallel_tool_calls", None)
    if stop is not None:
        given["stop_sequences"] = [stop] if isinstance(stop, str) else [*stop]
    if request.tools and (choice is not None or parallel is not None):
        if choice is None or is_answered(choice, request.messages):
            choice = "auto"
        given["tool_choice"] = _tool_choice(choice)
        if parallel is not None and choice != "none":
            given["tool_choice"]["disable_parallel_tool_use"] = not parallel
    return given


def _tool_choice(choice: Any) -> dict[str, Any]:
    match choice:
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
        case {"function": {"name": name}}:
            return {"type": "tool", "name": name}
        case str():
            return {"type": "tool", "name": choice}
        case _:
            return dict(choice)


def _most_tokens(model: str) -> int:
    """What `model` may write at a time."""
    less = (tokens for family, tokens in _WRITES_LESS if family.match(model))
    return next(less, MAX_TOKENS)


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
