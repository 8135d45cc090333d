"""Calls that ask in the middle, for stateless clients: they wait for the call with the answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, types

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.mcp import parking
from paddock.runtime.mcp.server import make_server
from tests.unit.mcp.toolboxes import OneTool, text_of

if TYPE_CHECKING:
    from paddock.runtime.mcp.toolbox import ToolRequest

PATIENCE = 60.0

pytestmark = pytest.mark.rows("F-41")


class Asking:
    """Work that asks twice, and remembers how it ended."""

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.ended = asyncio.Event()

    async def __call__(self, request: ToolRequest) -> ToolOutput:
        assert request.ask is not None
        try:
            for what in ("the first", "the second"):
                self.answers.append(await request.ask(what))
                request.report(f"after {what}")
        finally:
            self.ended.set()
        return ToolOutput(content=f"answered {self.answers}")


def client_of(work: Any) -> Client:
    async def unused(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        raise AssertionError("the test answers by itself")

    server = make_server(OneTool(work))
    return Client(server, mode="2026-07-28", elicitation_callback=unused)


async def call(
    client: Client, state: str | None = None, action: Any = None
) -> types.CallToolResult | types.InputRequiredResult:
    answers: Any = None if action is None else {"approval": types.ElicitResult(action=action)}
    result = await client.session.call_tool(
        "work", {}, input_responses=answers, request_state=state, allow_input_required=True
    )
    assert isinstance(result, types.CallToolResult | types.InputRequiredResult)
    return result


async def asked(
    client: Client, what: str, state: str | None = None, action: Any = None
) -> str | None:
    """The state of a call that has a question."""
    result = await call(client, state, action)
    assert isinstance(result, types.InputRequiredResult)
    ((_, question),) = (result.input_requests or {}).items()
    assert isinstance(question.params, types.ElicitRequestFormParams)
    assert question.params.message == f"test-box asks {what}"
    return result.request_state


async def test_each_question_is_a_result_and_the_work_runs_on_with_its_answer() -> None:
    work = Asking()
    async with client_of(work) as client:
        first = await asked(client, "the first")
        second = await asked(client, "the second", first, "accept")
        assert first != second
        done = await call(client, second, "decline")
    assert isinstance(done, types.CallToolResult)
    assert text_of(done) == "answered [True, False]"


async def test_a_call_without_the_answer_is_asked_again() -> None:
    work = Asking()
    async with client_of(work) as client:
        first = await asked(client, "the first")
        again = await asked(client, "the first", first)
        await asked(client, "the second", again, "accept")
    assert work.answers == [True]


async def test_an_answer_counts_once() -> None:
    async with client_of(Asking()) as client:
        first = await asked(client, "the first")
        await asked(client, "the second", first, "accept")
        again = await call(client, first, "accept")
    assert isinstance(again, types.CallToolResult)
    assert again.is_error
    assert "was answered before" in text_of(again)


async def test_a_call_that_nobody_answers_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "ANSWER_TIMEOUT", 0.05)
    work = Asking()
    async with client_of(work) as client, asyncio.timeout(PATIENCE):
        state = await asked(client, "the first")
        await work.ended.wait()
        late = await call(client, state, "accept")
    assert isinstance(late, types.CallToolResult)
    assert "was not answered in time" in text_of(late)
    assert work.answers == []


async def test_a_call_that_waits_ends_with_the_server() -> None:
    work = Asking()
    async with client_of(work) as client:
        await asked(client, "the first")
    assert work.ended.is_set()


async def test_beyond_some_waiting_calls_questions_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parking, "MAX_PARKED", 1)
    work = Asking()
    async with client_of(work) as client:
        await asked(client, "the first")
        done = await call(client)
    assert isinstance(done, types.CallToolResult)
    assert work.answers == [False, False]
