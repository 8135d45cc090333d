"""Whose the models of a runtime's agents are, and where they are served."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.errors import MissingCredentials
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.models import create_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.model import ModelClient, ModelEvent, ModelRequest
    from paddock.runtime.orchestration.fields import ProviderSpec
    from paddock.runtime.orchestration.spec import AgentSpec, RuntimeSpec

__all__ = ["ANTHROPIC", "OPENAI_COMPATIBLE", "ProviderModel", "check_providers", "model_of"]

ANTHROPIC = "anthropic"
OPENAI_COMPATIBLE = "openai-compatible"

_AT_HOME = {ANTHROPIC, OPENAI_COMPATIBLE, "openai"}
"""Providers whose address is known."""

NO_KEY = "none"
"""What is sent to a service that needs no key."""

_OPENAI = re.compile(r"gpt-|o\d")


def model_of(agent: AgentSpec) -> tuple[str | None, str]:
    """Return the provider of an agent's model, if anything tells it, and what it calls it."""
    model = agent.model
    if model.provider is not None:
        return model.provider, model.id
    if model.id.startswith("claude"):
        return ANTHROPIC, model.id
    if _OPENAI.match(model.id):
        return OPENAI_COMPATIBLE, model.id
    provider, slash, name = model.id.partition("/")
    return (provider, name) if slash and provider and name else (None, model.id)


def check_providers(spec: RuntimeSpec) -> None:
    """Raise `ValueError` for an agent whose model is of a provider that is not declared."""
    for agent in spec.agents:
        provider, _ = model_of(agent)
        where = f"agent {agent.name!r}: the provider of its model {agent.model.id!r}"
        if provider is None:
            raise ValueError(
                f"{where} is unknown; give ModelSpec(id, provider) or 'provider/model'"
            )
        if provider not in spec.providers:
            known = ", ".join(spec.providers) or "none"
            raise ValueError(
                f"{where} is {provider!r}, which is not declared in define_runtime(providers=); "
                f"declared: {known}"
            )
    for name, each in spec.providers.items():
        if each.base_url is None and name not in _AT_HOME:
            raise ValueError(f"provider {name!r}: give baseUrl, where its models are served")


@dataclass
class ProviderModel:
    """The models of one provider: a `ModelClient` that connects when it is first used.

    `name` is the provider's, and what is not Anthropic's speaks OpenAI's protocol.
    """

    name: str
    spec: ProviderSpec

    def __post_init__(self) -> None:
        self._client: LazyResource[ModelClient] = LazyResource(
            self._connect, name=f"models of {self.name}"
        )

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelClient.stream`."""
        events = (await self._client.get()).stream(request)
        try:
            async for event in events:
                yield event
        finally:
            if isinstance(events, AsyncGenerator):
                await finish(events.aclose())

    async def aclose(self) -> None:
        """Close connections; the next request makes new ones."""
        await self._client.aclose()

    async def _connect(self) -> ModelClient:
        return await asyncio.to_thread(self._create)

    def _create(self) -> ModelClient:
        variable, base_url = self.spec.api_key_env, self.spec.base_url
        if variable is None:
            key = NO_KEY if base_url else None  # a key of the environment is for its own service
        else:
            key = os.environ.get(variable)
            if not key:
                raise MissingCredentials(f"provider {self.name!r}: set its key in {variable}")
        if self.name == ANTHROPIC:
            from paddock.runtime.models.anthropic import AnthropicModel

            return AnthropicModel(base_url=base_url, api_key=key)
        return create_model("", provider="openai", base_url=base_url, api_key=key)
