"""Models: what answers a conversation. Importing this imports no provider's package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.runtime.core.model import ModelClient

__all__ = ["PROVIDERS", "SCRIPTED", "WIRES", "create_model", "provider_of"]

PROVIDERS = ("openai", "anthropic")
"""Whose protocol a service speaks."""

WIRES = ("chat", "responses")
"""OpenAI's two protocols: chat completions, and the Responses API."""

SCRIPTED = "scripted:"
"""Before a path, instead of a model's name: the scripted model that plays that file."""


def create_model(
    model: str,
    *,
    base_url: str | None = None,
    provider: str | None = None,
    api_key: str | None = None,
    max_retries: int | None = None,
    wire: str | None = None,
) -> ModelClient:
    """The client for `model`, which the caller closes with `aclose`.

    ``scripted:PATH`` replays a script. Anything else is a model of a service at `base_url`
    that speaks the protocol of `provider`, one of `PROVIDERS`; without it, ``claude-*`` is
    Anthropic's and every other name goes to OpenAI or to a service that speaks as it does, by
    the protocol `wire`, one of `WIRES`; see `OpenAIModel`.

    Raises `ConfigError` for a script that is not one, an unknown provider or wire, or if no key is
    to be found, and `MissingDependency` when the provider's package is not installed.
    """
    if model.startswith(SCRIPTED):
        from paddock.runtime.models.scripted import ScriptedModel

        return ScriptedModel.from_file(model.removeprefix(SCRIPTED))
    from paddock.runtime.models._service import DEFAULT_MAX_RETRIES

    retries = DEFAULT_MAX_RETRIES if max_retries is None else max_retries
    match provider or provider_of(model):
        case "openai":
            from paddock.runtime.models.openai import OpenAIModel

            return OpenAIModel(base_url=base_url, api_key=api_key, max_retries=retries, wire=wire)
        case "anthropic":
            from paddock.runtime.models.anthropic import AnthropicModel

            if base_url == os.environ.get("OPENAI_BASE_URL"):
                base_url = None  # the default of a configuration, and another provider's
            return AnthropicModel(base_url=base_url, api_key=api_key, max_retries=retries)
        case unknown:
            from paddock.errors import ConfigError

            raise ConfigError(f"provider {unknown!r} is not one of {', '.join(PROVIDERS)}")


def provider_of(model: str) -> str:
    """Whose protocol is spoken with `model`, where nothing but its name tells."""
    return "anthropic" if model.startswith("claude-") else "openai"
