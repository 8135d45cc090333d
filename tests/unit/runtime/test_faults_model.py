"""A service that hangs up in the middle, and calls of one turn that end in every way at once.

Rows C41 and C44 of the reliability document, through a session; the service is a real
server on a real socket.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import Cut, ModelServer
from tests.unit.runtime.conftest import let_run_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]

USAGE = {"input_tokens": 100, "output_tokens": 20}
STRIDE = 7
"""Bytes between two cuts; the model's own tests have one at each."""

PATIENCE = 60
"""Seconds that something which has to happen may take on a busy machine."""


@pytest.mark.rows("C41")
@pytest.mark.parametrize("text", ["", "I deploy."], ids=["call alone", "text and call"])
async def test_a_stream_that_is_cut_runs_its_call_once_or_not_at_all(
    open_session: OpenSession,
    check_history: CheckHistory,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    """It is begun again while nothing of it was shown; after that it is the run's error."""
    monkeypatch.setattr("paddock.runtime.models._service._FIRST_WAIT", 0.001)
    deployed: list[str] = []

    def deploy(target: str) -> str:
        deployed.append(target)
        return "deployed"

    def turn(request: Any) -> dict[str, Any]:
        if request.messages[-1]["role"] == "tool":
            return {"text": "Done.", "usage": USAGE}
        calls = [{"name": "deploy", "arguments": {"target": "production"}}]
        return {"text": text, "tool_calls": calls, "usage": USAGE}

    outcomes, cut, requests = set(), 0, 0
    async with ModelServer([turn] * 9) as server:
        model = OpenAIModel(base_url=server.base_url, api_key=server.api_key)
        while requests != 2:  # until the cut comes after the end, and nothing is begun again
            cut += STRIDE
            deployed.clear()
            requests, server._faults = -len(server.requests), [None] * len(server.requests)
            server._faults.append(Cut(after=cut))
            session = open_session([], deploy, client=model)
            async with asyncio.timeout(PATIENCE):
                result = await session.run(prompt="Deploy.")
            requests += len(server.requests)
            check_history(session.state.messages)
            outcomes.add(result.status)
            ran = result.status == "completed"
            assert deployed == ["production"] * ran
            if ran:
                assert result.usage["input_tokens"] == 200
            else:  # what the service had said until then was paid
                assert result.usage["input_tokens"] > 0
        await model.aclose()
    assert cut > 700
    assert outcomes == ({"completed", "error"} if text else {"completed"})


@pytest.mark.rows("C44")
async def test_of_five_calls_that_end_in_every_way_each_has_its_one_result(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    check_history: CheckHistory,
) -> None:
    ended, four = [], asyncio.Event()

    def first() -> str:
        return "first"

    async def hangs() -> str:
        await asyncio.Event().wait()
        return "never"

    def fails() -> str:
        raise ValueError("no such thing")

    async def asked() -> str:
        return "allowed"

    async def last() -> str:
        await asyncio.sleep(0)
        return "last"

    def show(event: AgentEvent) -> None:
        if event.type == "tool_end":
            ended.append(event.tool_name)
        if len(ended) == 4:
            four.set()

    names = ["first", "hangs", "fails", "asked", "last"]
    turns = [{"tool_calls": [{"name": name, "id": f"id-{name}"} for name in names]}]
    session = open_session(turns, first, hangs, fails, asking(asked), last)
    let_run_at_once(session)
    session.approval_callback = lambda tool, arguments: tool == "asked"
    run = asyncio.create_task(session.run(prompt="All.", on_event=show))
    await asyncio.wait_for(four.wait(), PATIENCE)
    await session.cancel()
    assert (await run).status == "cancelled"
    check_history(session.state.messages)
    results = {
        message["tool_call_id"]: message["content"]
        for message in session.state.messages
        if message["role"] == "tool"
    }
    assert list(results) == [f"id-{name}" for name in names]
    assert results["id-first"] == "first"
    assert results["id-hangs"].startswith("Cancelled while it ran.")
    assert "no such thing" in results["id-fails"]
    assert (results["id-asked"], results["id-last"]) == ("allowed", "last")
