"""How many tokens fit into a model's context, by name. Uses no network.

Most sizes are from the list that comes with `genai-prices`; a few families that it has
without a size are here. Does not know the service, which may allow less.
"""

from __future__ import annotations

import asyncio

__all__ = ["context_window"]

_SIZES = {"gemini-2": 1_048_576, "gemini-3": 1_048_576}
"""By the beginning of a name. From https://ai.google.dev/gemini-api/docs/models."""

_known: dict[str, int | None] = {}


async def context_window(model: str) -> int | None:
    """The size in tokens; None where it is not known. The list is read off the event loop."""
    if model not in _known:
        _known[model] = await asyncio.to_thread(_look_up, model)
    return _known[model]


def _look_up(model: str) -> int | None:
    from genai_prices import data_snapshot

    try:
        snapshot = data_snapshot.get_snapshot()
        _provider, found = snapshot.find_provider_model(model, None, None, None)
    except LookupError:
        return None
    by_name = (size for name, size in _SIZES.items() if found.id.startswith(name))
    return found.context_window or next(by_name, None)
