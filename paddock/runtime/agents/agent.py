"""An agent: what it is told, what it may call, where it works. Holds no conversation."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

from paddock.redaction import Secrets
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.models import create_model
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.sql.config import parse_databases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.base import Backend, ProgressCallback
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

__all__ = ["Agent"]


class Agent:
    """A definition that any number of sessions may share, at once.

    `registry` holds the tools of the profile; register others before sessions use it.
    Raises `ConfigError` for a profile that is none, and for databases that are not
    described as they should be.
    """

    def __init__(self, config: AgentConfig | None = None) -> None:
        self.config = AgentConfig() if config is None else config
        self.registry = _registry(self.config)
        self._own = frozenset(self.registry)

    @cached_property
    def system_prompt(self) -> str:
        """The text that every conversation begins with, read and rendered once."""
        return self.config.resolve_system_prompt()

    def reconfigure(self, config: AgentConfig) -> None:
        """Become the agent of `config`, for the next call in every session that shares this one.

        A run that is going on keeps its model and its sandbox; its next model call is told the
        new tools, and tool calls that are not decided yet are by the new profile. So it is for
        the agents that work for it. Tools that were registered beside the profile's stay, and so
        does a system prompt that was read already.
        """
        registry = _registry(config)
        own = frozenset(registry)
        for name in self.registry:
            handler = self.registry.get(name)
            if name not in self._own and handler is not None:
                registry.register(handler)
        self.config, self.registry, self._own = config, registry, own

    def create_client(self) -> ModelClient:
        """A new client of the configured model, for the caller to close."""
        return create_model(
            self.config.model, base_url=self.config.base_url, provider=self.config.provider
        )

    @property
    def secrets(self) -> Secrets:
        """What the commands of this agent are told: its backend's secrets and its own."""
        backend = self.config.backend
        of_backend = {} if isinstance(backend, str) else backend.secrets
        return Secrets({**of_backend, **self.config.secrets})

    def create_backend(self) -> Backend:
        """The recipe of this agent's sandboxes. Raises `ConfigError` for an unknown name."""
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
        secrets: Mapping[str, str] | None = None,
    ) -> Sandbox:
        """A new sandbox of this agent's recipe, with `secrets` too, for the caller to close."""
        backend = self.create_backend()
        if secrets:
            backend = dataclasses.replace(backend, secrets={**self.secrets, **secrets})
        return await backend.create(on_progress=on_progress)


def _registry(config: AgentConfig) -> ToolRegistry:
    return build_registry(
        config.profile,
        databases=parse_databases(config.databases),
        placed=config.given_working_dir is not None,
    )
