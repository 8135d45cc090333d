"""What a session keeps to itself: its secrets, on the ways out of it.

There are four: to the model, to the trace and the other sinks of events, to the log, and to
commands in the sandbox, which are the only ones to get them. Knows no run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock._logs import redact_logs
from paddock.redaction import Redactor, Secrets
from paddock.runtime.core.model import (
    ModelResponse,
    ModelRetry,
    ReasoningDelta,
    TextDelta,
    UsageSoFar,
)
from paddock.runtime.core.redacted import redacted_arguments, redacted_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.core.model import ModelClient, ModelEvent, ModelRequest, ToolCall
    from paddock.sandbox import Sandbox

__all__ = ["RedactingModelClient", "SecretScope"]


class SecretScope:
    """The secrets of one session: the agent's, its `own`, and those of the run.

    `redactor` knows them all, and keeps those of earlier runs: what such a run
    has left in a file may be read in a later one. What this package logs holds none of them,
    tracebacks included, for as long as this is referred to.
    """

    def __init__(self, agent: Agent, own: Mapping[str, str]) -> None:
        self.own: Secrets = Secrets(own)
        self.agent: Agent = agent
        self._given = self._standing
        self._learn(Redactor(self._given))
        self._lent: weakref.ref[Sandbox] | None = None
        self._above: SecretScope | None = None

    def use(self, agent: Agent) -> None:
        """Have the secrets of `agent` instead of those of the agent before, which stay redacted."""
        self.agent = agent
        self._learn(self.redactor.including(self._standing))

    @property
    def _standing(self) -> Secrets:
        return Secrets({**self.agent.secrets, **self.own})

    @contextlib.contextmanager
    def keeping(self, secrets: Mapping[str, str]) -> Iterator[None]:
        """While the block runs, commands get `secrets` too. Raises `ConfigError`."""
        given = Secrets({**self._standing, **secrets})
        self._learn(self.redactor.including(given))
        self._give(given)
        try:
            yield
        finally:
            self._give(self._standing)

    def lent_to(self, agent: Agent, *, whole: bool, shared: bool) -> SecretScope:
        """The secrets of an agent that works for this session's: what is secret here is so
        there. If `whole`, its commands get what this session's get now. If the sandbox is
        `shared`, what is lent there is taken back here, when this session's run ends."""
        lent = SecretScope(agent, self._given if whole else {})
        lent._above = self if shared else None
        lent._learn(lent.redactor | self.redactor)
        return lent

    def lend(self, sandbox: Sandbox) -> Sandbox:
        """`sandbox`, whose commands get what there is now, and change when it changes."""
        if self._above is not None:
            self._above.lend(sandbox)
        self._lent = weakref.ref(sandbox)
        self._set_secrets(sandbox)
        return sandbox

    def _learn(self, redactor: Redactor) -> None:
        self.redactor = redactor
        if redactor:
            redact_logs(self)

    def _give(self, secrets: Secrets) -> None:
        self._given = secrets
        sandbox = None if self._lent is None else self._lent()
        if sandbox is not None:
            self._set_secrets(sandbox)

    def _set_secrets(self, sandbox: Sandbox) -> None:
        sandbox.secrets = self._given
        sandbox.redactor |= self.redactor


class RedactingModelClient:
    """A model client that redacts secrets in requests and in answers."""

    def __init__(self, client: ModelClient, redactor: Redactor) -> None:
        self._client = client
        self._redactor = redactor

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelClient.stream`. A piece of text may come with the next one."""
        messages = [redacted_message(message, self._redactor) for message in request.messages]
        events = self._client.stream(dataclasses.replace(request, messages=messages))
        pieces, thoughts = self._redactor.text_stream(), self._redactor.text_stream()
        try:
            async for event in events:
                if isinstance(event, ModelRetry | UsageSoFar):
                    yield event  # the emitter redacts events
                    continue
                thinks = isinstance(event, ReasoningDelta)
                if text := thoughts.feed(event.text) if thinks else thoughts.close():
                    yield ReasoningDelta(text=text)
                if thinks:
                    continue
                more = isinstance(event, TextDelta)
                if text := pieces.feed(event.text) if more else pieces.close():
                    yield TextDelta(text=text)
                if isinstance(event, ModelResponse):
                    yield self._response(event)
        finally:
            if isinstance(events, AsyncGenerator):
                await finish(events.aclose())

    def _response(self, response: ModelResponse) -> ModelResponse:
        calls = tuple(self._call(call) for call in response.tool_calls)
        text = self._redactor.text(response.text)
        return dataclasses.replace(response, text=text, tool_calls=calls)

    def _call(self, call: ToolCall) -> ToolCall:
        told = redacted_arguments(call.arguments, self._redactor)
        return call if told is call.arguments else dataclasses.replace(call, arguments=told)

    async def aclose(self) -> None:
        await self._client.aclose()
