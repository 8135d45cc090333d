"""What tokens cost: as the service says, or by the price list of `genai-prices`. Uses no network.

The list goes by the model's name alone: it does not know the service, or what was agreed
with them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.core.model import ModelRequest, ModelResponse, Usage

__all__ = ["cost_usd", "price", "priced"]

_COST_HEADERS = ("x-litellm-response-cost", "x-openrouter-cost", "x-response-cost")
"""What gateways tell in US dollars; nought, as it stands before a stream, tells nothing."""

_has_price: dict[str, bool] = {}


async def priced(
    response: ModelResponse, request: ModelRequest, headers: Mapping[str, str]
) -> ModelResponse:
    """`response` with what it cost, where anybody knows it."""
    if response.is_priced:
        return response
    usage = response.usage
    cost = _told_by(headers)
    if cost is None:
        cost = await price(request.model, usage, service_tier=request.service_tier)
        if not _has_price.get(request.model):
            return response
    return replace(response, usage=replace(usage, cost_usd=cost), is_priced=True)


async def price(model: str, usage: Usage, *, service_tier: str | None = None) -> float:
    """As `cost_usd`, off the event loop for a model's first time, when the list is read."""
    if model not in _has_price:
        return await asyncio.to_thread(cost_usd, model, usage, service_tier=service_tier)
    return cost_usd(model, usage, service_tier=service_tier)


def cost_usd(model: str, usage: Usage, *, service_tier: str | None = None) -> float:
    """The price of `usage` in US dollars; 0.0 for a model that the list does not have."""
    if not _has_price.get(model, True):
        return 0.0
    import genai_prices

    read = min(usage.cached_tokens, usage.input_tokens)
    tokens = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=read,
        cache_write_tokens=min(usage.cache_write_tokens, usage.input_tokens - read),
        output_tokens=usage.output_tokens,
    )
    context = {"service_tier": service_tier} if service_tier else None
    try:
        total = genai_prices.calc_price(tokens, model, price_context=context).total_price
    except LookupError:
        _has_price[model] = False
        return 0.0
    _has_price[model] = True
    return float(total)


def _told_by(headers: Mapping[str, str]) -> float | None:
    for name in _COST_HEADERS:
        try:
            cost = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 < cost < float("inf"):
            return cost
    return None
