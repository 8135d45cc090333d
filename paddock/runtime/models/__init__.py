"""Models: what answers a conversation. Importing this imports no provider's package."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.runtime.models.base import ModelClient

__all__ = ["SCRIPTED", "create_model"]

SCRIPTED = "scripted:"
"""Before a path, in place of a model's name: the scripted model that plays that file."""


def create_model(
    model: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    max_retries: int | None = None,
) -> ModelClient:
    """The client for `model`, which the caller closes with `aclose`.

    ``scripted:PATH`` replays a script; anything else is a model of a service that speaks
    OpenAI's protocol, at `base_url`. Raises `ConfigError` for a script that is not one,
    or when no key is to be found.
    """
    if model.startswith(SCRIPTED):
        from paddock.runtime.models.scripted import ScriptedModel

        return ScriptedModel.from_file(model.removeprefix(SCRIPTED))
    from paddock.runtime.models.openai import DEFAULT_MAX_RETRIES, OpenAIModel

    retries = DEFAULT_MAX_RETRIES if max_retries is None else max_retries
    return OpenAIModel(base_url=base_url, api_key=api_key, max_retries=retries)
