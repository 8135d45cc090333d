"""A model that gives whole responses as they are, which a script cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.runtime.core.model import TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.model import ModelEvent, ModelRequest, ModelResponse

__all__ = ["RawModel"]


class RawModel:
    """Answers with these responses in their order, whatever is asked; keeps the requests."""

    def __init__(self, *responses: ModelResponse) -> None:
        self.responses = responses
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        response = self.responses[len(self.requests) - 1]
        if response.text:
            yield TextDelta(text=response.text)
        yield response

    async def aclose(self) -> None:
        """Nothing is open."""
