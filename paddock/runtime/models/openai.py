"""Models behind OpenAI's chat completions protocol, of any service, or its Responses API.

Authentication and connections are those of the `openai` package. The stream is read as bytes
by `_reply` and put together in `_answer`, or `_response_answer`; `_items` translates the
conversation for the Responses API.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING, Any

import httpx2
import openai  # noqa: TID253 - this is the module that needs it, and is imported when needed

from paddock.errors import ConfigError
from paddock.runtime.models import WIRES
from paddock.runtime.models._answer import AnswerBuilder
from paddock.runtime.models._content import images_apart, is_answered
from paddock.runtime.models._endpoint import Endpoint, account, connection_settings
from paddock.runtime.models._items import input_items, instructions, text_format, tool_params
from paddock.runtime.models._opaque import restored
from paddock.runtime.models._response_answer import ResponseBuilder
from paddock.runtime.models._service import (
    DEFAULT_IDLE_TIMEOUT,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    ServiceModel,
)
from paddock.runtime.models._transport import Post

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.runtime.core.model import Message, ModelRequest
    from paddock.runtime.models._building import Builder
    from paddock.runtime.models._service import Connection

__all__ = ["DEFAULT_MAX_RETRIES", "DEFAULT_TIMEOUT", "FLEX_TIMEOUT", "OpenAIModel"]

FLEX_TIMEOUT = 900.0
"""At least this for ``service_tier="flex"``, where requests wait for capacity."""

MAX_POSTS = 64
"""Different headers of requests that are kept ready: an agent's are the same each time."""

_OWN_HOST = "api.openai.com"
_THINKS = re.compile(r"(o\d|gpt-[5-9]|codex)(?!.*-chat)")
"""OpenAI's models that think: those of its page "Reasoning models". The ``-chat`` ones do not."""

_AZURE = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")


_CHOICES = frozenset({"auto", "none", "required"})
_CHAT_ONLY = frozenset({"seed", "stop"})
"""Options that the Responses API does not have."""


class OpenAIModel(ServiceModel):
    """A `ModelClient` for any service that speaks the protocol, and any of its models.

    `base_url` and `api_key` default to ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``. A service
    of one's own may need no key; without `base_url` the lack of one is a `ConfigError`, as is
    an invalid `base_url`. Its query (``?api-version=...``) is sent with each request, and
    Azure gets the key as ``api-key``.

    `timeout` is in seconds until the answer begins, `idle_timeout` without a byte after that.
    408, 409, 429, 5xx, a lost connection, and the same errors inside a stream, are tried again
    before the first text, up to `max_retries` times, after the time that the service asks for
    (``Retry-After``) or after growing waits with jitter. A service that never answered and
    refuses connections is not tried again, and neither is one that was silent for `timeout`.

    `wire` is the protocol, ``chat`` or ``responses``. The Responses API gives a model its
    reasoning back, so that it does not think anew after each call. Without `wire` it is used for
    the models of OpenAI's own service that think, and chat completions for all others.

    `streams_tools` False asks for answers in one piece where there are tools, of services that
    stream no calls, or stream them wrong. The default is True, but False where the address is
    one of Cerebras.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        idle_timeout: float = DEFAULT_IDLE_TIMEOUT,
        max_retries: int = DEFAULT_MAX_RETRIES,
        streams_tools: bool | None = None,
        wire: str | None = None,
    ) -> None:
        base_url, api_key = account("OPENAI", base_url, api_key)
        if not api_key and not base_url:
            raise ConfigError(
                "no API key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a service that needs none"
            )
        if wire not in (None, *WIRES):
            raise ConfigError(f"wire {wire!r} is not one of {', '.join(WIRES)}")
        if streams_tools is None:
            streams_tools = "cerebras" not in (base_url or "").lower()
        self.streams_tools = streams_tools
        self.wire = wire
        endpoint = Endpoint(
            service="openai",
            base_url=base_url,
            api_key=api_key,
            environment=connection_settings("OPENAI_ORG", "OPENAI_PROJECT", "OPENAI_CUSTOM"),
        )
        super().__init__(
            endpoint, timeout=timeout, idle_timeout=idle_timeout, max_retries=max_retries
        )

    def _make_client(self, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
        base_url, query = _address(self.endpoint)
        return openai.AsyncOpenAI(
            base_url=base_url,
            api_key=self.endpoint.api_key or "none",  # the client insists on one
            default_query=query,
            max_retries=0,
            http_client=http,
        )

    async def _post(
        self,
        connection: Connection,
        request: ModelRequest,
        body: Callable[[], bytes],
        limits: httpx2.Timeout,
    ) -> httpx2.Response:
        path, extra = self._path(request), request.extra_headers
        key = (path, limits.read, *extra.items())
        post = connection.posts.get(key)
        if post is None:
            told = {**extra, "x-stainless-read-timeout": str(limits.read)}
            post = self._new_post(connection, path, told)
            if len(connection.posts) < MAX_POSTS:
                connection.posts[key] = post
        return await post.send(body, limits)

    def _new_post(self, connection: Connection, path: str, extra: Mapping[str, str]) -> Post:
        """Return what the package would send, which takes it longer than all the rest."""
        client: openai.AsyncOpenAI = connection.client
        azure = _azure_headers(self.endpoint)
        headers = httpx2.Headers()
        given = {**client.auth_headers, **client.default_headers, **azure, **extra}
        for name, value in given.items():
            if isinstance(value, str):
                headers[name] = value
            else:
                headers.pop(name, None)
        url = client.base_url.join(path.removeprefix("/"))
        return Post(connection.http, url.copy_merge_params(_address(self.endpoint)[1]), headers)

    def _first_timeout(self, request: ModelRequest) -> float:
        timeout = super()._first_timeout(request)
        return max(FLEX_TIMEOUT, timeout) if request.service_tier == "flex" else timeout

    def _by_responses(self, request: ModelRequest) -> bool:
        if self.wire is not None:
            return self.wire == "responses"
        return self._is_openai and _thinks(request) and not _CHAT_ONLY & request.options.keys()

    def _path(self, request: ModelRequest) -> str:
        return "/responses" if self._by_responses(request) else "/chat/completions"

    def _answer(self, request: ModelRequest) -> Builder:
        return ResponseBuilder() if self._by_responses(request) else AnswerBuilder()

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        if self._by_responses(request):
            body = _response_body(request, self._name)
        else:
            body = self._chat_body(request)
        return body | dict(request.extra_body)

    def _chat_body(self, request: ModelRequest) -> dict[str, Any]:
        messages = [_message(each, self._name) for each in images_apart(request.messages)]
        body: dict[str, Any] = {"model": request.model, "messages": messages}
        if self.streams_tools or not request.tools:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if request.tools:
            body["tools"] = request.tools
        if request.response_format is not None:
            body["response_format"] = request.response_format
        if request.reasoning_effort is not None:
            body["reasoning_effort"] = request.reasoning_effort
        if request.service_tier is not None:
            body["service_tier"] = request.service_tier
        options = _options(request)
        if self._is_openai and "max_tokens" in options:  # its name of old, which its models refuse
            options["max_completion_tokens"] = options.pop("max_tokens")
        choice = options.get("tool_choice")
        if isinstance(choice, str) and choice not in _CHOICES:
            options["tool_choice"] = {"type": "function", "function": {"name": choice}}
        return body | options

    @property
    def _is_openai(self) -> bool:
        """Whether the service is OpenAI's own."""
        host = urllib.parse.urlsplit(self.endpoint.base_url or "").hostname or _OWN_HOST
        return host == _OWN_HOST


def _options(request: ModelRequest) -> dict[str, Any]:
    """The options of `request` without those that mean nothing in it."""
    options = dict(request.options)
    if not request.tools:
        options.pop("parallel_tool_calls", None)
    choice = options.get("tool_choice", "auto")
    if not request.tools or is_answered(choice, request.messages):
        options.pop("tool_choice", None)
    return options


def _response_body(request: ModelRequest, service: str) -> dict[str, Any]:
    """Nothing is kept at the service: the whole conversation is sent, with its reasoning."""
    body: dict[str, Any] = {
        "model": request.model,
        "input": input_items(request.messages, service=service),
        "stream": True,
        "store": False,
    }
    if prompt := instructions(request.messages):
        body["instructions"] = prompt
    if request.tools:
        body["tools"] = tool_params(request.tools)
    if request.response_format is not None:
        body["text"] = {"format": text_format(request.response_format)}
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    if request.reasoning_effort is not None or _thinks(request):
        body["include"] = ["reasoning.encrypted_content"]
    if request.service_tier is not None:
        body["service_tier"] = request.service_tier
    options = _options(request)
    if "max_tokens" in options:
        options["max_output_tokens"] = options.pop("max_tokens")
    match options.get("tool_choice"):
        case {"function": {"name": name}}:
            options["tool_choice"] = {"type": "function", "name": name}
        case str(name) if name not in _CHOICES:
            options["tool_choice"] = {"type": "function", "name": name}
    return body | options


def _thinks(request: ModelRequest) -> bool:
    return _THINKS.match(request.model) is not None


def _message(message: Message, service: str) -> Message:
    """`message` as chat format has it, with what `service` itself once sent beside it."""
    kept = message.get("opaque")
    if kept is None:
        return message
    plain = {key: value for key, value in message.items() if key != "opaque"}
    if kept.get("service") != service:
        return plain
    calls, of_calls = plain.get("tool_calls"), kept.get("calls")
    if calls and of_calls and len(calls) == len(of_calls):
        plain["tool_calls"] = [
            restored(call, back) for call, back in zip(calls, of_calls, strict=True)
        ]
    return restored(plain, kept.get("message"))


def _address(endpoint: Endpoint) -> tuple[str | None, dict[str, str]]:
    """The address without its query, and the query."""
    if endpoint.base_url is None:
        return None, {}
    parts = urllib.parse.urlsplit(endpoint.base_url)
    bare = urllib.parse.urlunsplit(parts._replace(query="", fragment=""))
    return bare, dict(urllib.parse.parse_qsl(parts.query))


def _azure_headers(endpoint: Endpoint) -> dict[str, Any]:
    """The header for the key that Azure wants instead of the usual one."""
    parts = urllib.parse.urlsplit(endpoint.base_url or "")
    is_azure = "api-version=" in parts.query or (parts.hostname or "").endswith(_AZURE)
    if not is_azure or not endpoint.api_key:
        return {}
    return {"api-key": endpoint.api_key, "Authorization": openai.Omit()}
