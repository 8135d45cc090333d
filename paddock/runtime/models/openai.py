"""Models behind OpenAI's chat completions protocol, whoever serves it, or its Responses API.

The `openai` package is not used: to import it takes 27 MiB and half a second, for five headers. The
stream is read as bytes by `_reply` and put together in `_answer`, or `_response_answer`; `_items`
translates the conversation for the Responses API.
"""

from __future__ import annotations

import re
import urllib.parse
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx2

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
_OWN_ADDRESS = f"https://{_OWN_HOST}/v1"
_SET_BY = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
"""Headers for a part of an account, by the variables of OpenAI's own package."""
_CUSTOM = "OPENAI_CUSTOM_HEADERS"
"""A variable of OpenAI's own package, for gateways: lines of ``name: value``."""

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
            environment=connection_settings(*_SET_BY, _CUSTOM),
        )
        super().__init__(
            endpoint, timeout=timeout, idle_timeout=idle_timeout, max_retries=max_retries
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
        parts = urllib.parse.urlsplit(self.endpoint.base_url or _OWN_ADDRESS)
        whole = parts._replace(path=parts.path.rstrip("/") + path, fragment="")
        headers = _headers(self.endpoint)
        headers.update(extra)
        return Post(connection.http, httpx2.URL(whole.geturl()), headers)

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


def _headers(endpoint: Endpoint) -> httpx2.Headers:
    """What each request of an account begins with."""
    environment = dict(endpoint.environment)
    headers = httpx2.Headers(
        {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"paddock/{version('paddock')}",
        }
    )
    if endpoint.api_key and _is_azure(endpoint):
        headers["api-key"] = endpoint.api_key
    else:
        headers["Authorization"] = f"Bearer {endpoint.api_key or 'none'}"
    for name, header in _SET_BY.items():
        if value := environment.get(name):
            headers[header] = value
    for line in environment.get(_CUSTOM, "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


def _is_azure(endpoint: Endpoint) -> bool:
    """Whether the service wants the key in a header of its own."""
    parts = urllib.parse.urlsplit(endpoint.base_url or "")
    return "api-version=" in parts.query or (parts.hostname or "").endswith(_AZURE)
