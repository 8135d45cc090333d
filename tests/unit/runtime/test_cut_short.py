"""Answers that are cancelled or break off: they are paid for, so they are counted."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ModelError
from paddock.runtime.core.model import TextDelta, Usage, UsageSoFar
from tests.unit.runtime.stuck import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import ModelEvent, ModelRequest
    from tests.unit.runtime.conftest import OpenSession

SAID = "word " * 80  # 100 tokens
COUNTED = Usage(input_tokens=1234, output_tokens=1, cached_tokens=1000)


class Halting:
    """Yields `events`, and then never anything, or fails with `error`."""

    def __init__(self, *events: ModelEvent, error: Exception | None = None) -> None:
        self._events: Sequence[ModelEvent] = events
        self._error = error
        self.halted = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for event in self._events:
            yield event
        if self._error is not None:
            raise self._error
        self.halted.set()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Nothing is open."""


async def cancelled(open_session: OpenSession, model: Halting, **options: Any) -> dict[str, Any]:
    """The usage of a run that is cancelled when `model` halts."""
    session = open_session([], client=model, **options)
    run = asyncio.create_task(session.run("Go on. " * 40))
    await until(model.halted)
    await session.cancel()
    result = await asyncio.wait_for(run, PATIENCE)
    assert result.status == "cancelled"
    total = {key: result.usage[f"total_{key}"] for key in ("input_tokens", "output_tokens")}
    assert total == {key: result.usage[key] for key in total}
    return result.usage


async def test_a_cancelled_answer_counts_what_was_asked_and_what_came(
    open_session: OpenSession, tmp_path: Path
) -> None:
    usage = await cancelled(open_session, Halting(TextDelta(text=SAID)), session_dir=tmp_path)
    assert usage["input_tokens"] >= 70
    assert usage["output_tokens"] == 100
    assert usage["cost_usd"] > 0
    trace = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    ends = [line for line in trace if line["type"] == "llm_end"]
    assert [(end["output_tokens"], end["cut_short"]) for end in ends] == [(100, True)]


async def test_a_request_that_is_cancelled_before_any_answer_counts_too(
    open_session: OpenSession,
) -> None:
    usage = await cancelled(open_session, Halting())
    assert usage["input_tokens"] >= 70
    assert usage["output_tokens"] == 0


async def test_what_the_service_counted_goes_before_an_estimate(open_session: OpenSession) -> None:
    model = Halting(UsageSoFar(usage=COUNTED), TextDelta(text=SAID))
    usage = await cancelled(open_session, model)
    assert (usage["input_tokens"], usage["cached_tokens"]) == (1234, 1000)
    assert usage["output_tokens"] == 100


@pytest.mark.parametrize(("events", "tokens"), [([TextDelta(text=SAID)], 100), ([], 0)])
async def test_an_answer_that_breaks_off_counts_and_a_request_that_is_refused_does_not(
    open_session: OpenSession, events: Sequence[ModelEvent], tokens: int
) -> None:
    model = Halting(*events, error=ModelError("API error 500: broken", status=500))
    result = await open_session([], client=model).run("Go.")
    assert (result.status, result.usage["output_tokens"]) == ("error", tokens)
    assert bool(result.usage["input_tokens"]) is bool(tokens)
