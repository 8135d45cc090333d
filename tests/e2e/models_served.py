"""A model's client and the service that answers it, for the tests that every client passes.

Knows no service: each is a `Service` in a module of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from paddock.runtime.core.model import ModelEvent, ModelRequest, ModelResponse, TextDelta
from paddock.testing.model_server import Fault, ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    import pytest
    from pydantic import TypeAdapter

    from paddock.runtime.models.anthropic import AnthropicModel
    from paddock.runtime.models.openai import OpenAIModel

    Model: TypeAlias = OpenAIModel | AnthropicModel

HELLO: dict[str, Any] = {
    "text": "Hello there.",
    "usage": {"input_tokens": 10, "output_tokens": 3},
}
LONG: dict[str, Any] = {**HELLO, "text": "One word comes after the other, and there are ten."}
ONE_CALL: dict[str, Any] = {
    "tool_calls": [{"name": "bash", "arguments": {"command": "true"}}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
TWO_CALLS: dict[str, Any] = {
    "thinking": "Which tests fail?",
    "text": "I look.",
    "tool_calls": [
        {"name": "bash", "arguments": {"command": "python -m pytest -q"}},
        {"name": "read", "arguments": {"path": "src/été.py"}},
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 64,
        "cache_write_tokens": 16,
        "reasoning_tokens": 7,
    },
}
REQUEST = ModelRequest(model="scripted", messages=[{"role": "user", "content": "Go."}])
DEADLINE = 60.0  # seconds; far above what anything here takes, also on a busy machine


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service's client, and what tells it from the other ones."""

    model: Callable[..., Model]
    variables: str
    """What the names of the variables with its key and its address begin with."""
    parameters: TypeAdapter[Any]
    """The service's own type of what it may be asked."""
    recorded_stream: Callable[[dict[str, Any]], Awaitable[bytes]]
    """All that it sends for a turn, as a client that is not ours reads it."""
    counts_cache_writes: bool
    with_text: int = 800
    """Bytes of its stream that have some of the text of `LONG`, and not all."""
    among_calls: int = 1700
    """Bytes after which `TWO_CALLS` has said its text, and not all of its calls."""
    events_with_text: int = 4
    """Events, of which the last have text."""

    @contextlib.asynccontextmanager
    async def served(
        self, turns: Sequence[Any], *, faults: Sequence[Fault | None] = (), **options: Any
    ) -> AsyncIterator[tuple[Model, ModelServer]]:
        """A model and its server; all that was asked is what the service's types allow."""
        async with ModelServer(turns, faults=faults) as server:
            model = self.model(base_url=server.base_url, api_key=server.api_key, **options)
            try:
                async with asyncio.timeout(DEADLINE):
                    yield model, server
            finally:
                await model.aclose()
        for body in {json.dumps(request.body) for request in server.requests}:
            _consume(self.parameters.validate_python(json.loads(body)))


def _consume(value: object) -> None:
    """Iterate to the bottom: of what is iterable, pydantic validates only what is asked for."""
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            _consume(item)


async def collect(model: Model, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


async def answered(model: Model, request: ModelRequest = REQUEST) -> ModelResponse:
    *deltas, response = await collect(model, request)
    assert isinstance(response, ModelResponse)
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == response.text
    return response


def forget_accounts(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Let nothing be found that this machine's user has set, or keeps on its disk."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
