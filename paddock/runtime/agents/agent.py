"""An agent as a value: instructions, tools and workplace, without a conversation."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from paddock.errors import ConfigError
from paddock.redaction import Secrets
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.core.subagent import AgentDefinition
from paddock.runtime.models import create_model
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.registry import ToolRegistry
from paddock.runtime.tools.sql.config import parse_databases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from paddock.backends.base import Backend, ProgressCallback
    from paddock.process import CommandCallback
    from paddock.runtime.core.model import ModelClient, ModelEvent, ModelRequest
    from paddock.runtime.tools.base import ToolHandler
    from paddock.sandbox import Sandbox

__all__ = ["Agent", "own_copy"]


class Agent(AgentDefinition):
    """The definition of an agent, for any number of sessions.

    `registry` has the tools of the profile; register others before a session begins. Each
    session takes a copy, so a change in one session affects neither this agent nor other
    sessions.

    `tools` are added to it: functions (see `tool`) and other handlers. `model` replaces the model
    that `config` names; the caller closes it, and it must serve the event loops of all sessions.

    Raises `ConfigError` for an unknown profile, for an invalid description of databases, and for
    tools that no model can be offered or that have the same name.
    """

    def __init__(
        self,
        config: AgentConfig | None = None,
        *,
        tools: Iterable[ToolHandler | Callable[..., Any]] = (),
        model: ModelClient | None = None,
    ) -> None:
        self._config = AgentConfig() if config is None else config
        self._model = model
        self.servers_in: Callable[[], Awaitable[Sandbox]] | None = None
        self._registry = _registry(self._config)
        self._of_profile = self._registry.copy()
        own = ToolRegistry()
        for tool in tools:
            known = len(own)
            handler = own.register(tool)
            if len(own) == known:
                raise ConfigError(f"two of the agent's tools have the name {handler.name!r}")
        self._registry.include(own)
        self._prompt = _SystemPrompt(self._config)

    @property
    def config(self) -> AgentConfig:
        return self._config

    @property
    def registry(self) -> ToolRegistry:
        return self._registry

    @property
    def system_prompt(self) -> str:
        """The first text of every conversation, read and rendered once."""
        return self._prompt.text

    def copy(
        self,
        *,
        config: AgentConfig | None = None,
        registry: ToolRegistry | None = None,
        model: ModelClient | None = None,
        servers_in: Callable[[], Awaitable[Sandbox]] | None = None,
    ) -> Self:
        """Return an equal agent with its own registry, except for the arguments given.

        Another `config` changes no tool; see `replace`. `servers_in` returns the sandbox in which
        its MCP servers run, instead of the session's.
        """
        copied = copy.copy(self)
        copied._registry = self._registry.copy() if registry is None else registry
        if config is not None:
            copied._config, copied._prompt = config, _SystemPrompt(config)
        if model is not None:
            copied._model = model
        if servers_in is not None:
            copied.servers_in = servers_in
        return copied

    def replace(self, config: AgentConfig) -> Self:
        """Return this agent with another `config`. It keeps the tools that were added or replaced
        here, lacks those that were removed here, and keeps the system prompt if it was read."""
        changed = copy.copy(self)
        changed._config = config
        changed._of_profile = _registry(config)
        mine, given = self._registry, self._of_profile
        changed._registry = changed._of_profile.without({*given}.difference(mine))
        untouched = {name for name in mine if mine.get(name) is given.get(name)}
        changed._registry.include(mine, without=untouched)
        if not self._prompt.is_read:
            changed._prompt = _SystemPrompt(config)
        return changed

    def create_client(self) -> ModelClient:
        """Return a client of the model, for the caller to close."""
        if self._model is not None:
            return _LentModel(self._model)
        return create_model(
            self.config.model,
            base_url=self.config.base_url,
            provider=self.config.provider,
            wire=self.config.wire,
        )

    @property
    def endpoint(self) -> tuple[object, ...]:
        """The key of its model client: equal for agents that may share one."""
        given = None if self._model is None else id(self._model)
        return self.config.model, self.config.base_url, self.config.provider, given

    @property
    def workplace(self) -> tuple[object, ...]:
        """The key of its sandboxes: equal for agents that may share one."""
        return self.config.backend, self.config.working_dir, self.config.secrets

    @property
    def secrets(self) -> Secrets:
        """The secrets that this agent's commands get: its backend's and its own."""
        backend = self.config.backend
        of_backend = {} if isinstance(backend, str) else backend.secrets
        return Secrets({**of_backend, **self.config.secrets})

    def create_backend(self) -> Backend:
        """Return the recipe of this agent's sandboxes. Raises `ConfigError` for an unknown name."""
        backend = self.config.backend
        if isinstance(backend, str):
            from paddock.backends.base import get_backend

            backend = get_backend(backend)()
        if self.config.secrets:
            backend = dataclasses.replace(backend, secrets=self.secrets)
        if self.config.working_dir is None:
            return backend
        return dataclasses.replace(backend, working_dir=self.config.working_dir)

    async def connect(self) -> ModelClient:
        """`create_client` for an event loop: what it imports and reads takes time."""
        return await asyncio.to_thread(self.create_client)

    async def provision(
        self,
        *,
        on_progress: ProgressCallback | None = None,
        on_command: CommandCallback | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Sandbox:
        """Make a sandbox of this agent's recipe, with `secrets`, for the caller to close."""
        backend = self.create_backend()
        if secrets:
            backend = dataclasses.replace(backend, secrets={**self.secrets, **secrets})
        return await backend.create(on_progress=on_progress, on_command=on_command)


def own_copy(agent: Agent) -> Agent:
    """Return a copy of `agent` for a session. Raise `ConfigError` for what is not an `Agent`."""
    if not isinstance(agent, Agent):
        raise ConfigError(
            f"give an Agent, such as Agent(AgentConfig()), not {type(agent).__name__}"
        )
    return agent.copy()


class _LentModel:
    """A model that a session uses and does not close."""

    def __init__(self, model: ModelClient) -> None:
        self._model = model

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        return self._model.stream(request)

    async def aclose(self) -> None:
        """Do nothing: the agent's maker closes the model."""


class _SystemPrompt:
    """The system prompt of `config`, read when it is first asked for."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config

    @cached_property
    def text(self) -> str:
        return self._config.resolve_system_prompt()

    @property
    def is_read(self) -> bool:
        return "text" in self.__dict__


def _registry(config: AgentConfig) -> ToolRegistry:
    return build_registry(
        config.profile,
        databases=parse_databases(config.databases),
        placed=config.given_working_dir is not None,
    )
