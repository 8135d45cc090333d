"""An answer that comes with a call of its own counts for what was asked, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from paddock.runtime.mcp.server import make_server
from tests.unit.mcp.toolboxes import OneTool

ACCEPT: Any = {"approval": types.ElicitResult(action="accept")}

pytestmark = pytest.mark.rows("F-41")


def client_of(box: OneTool) -> Client:
    async def unused(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        raise AssertionError("the test answers by itself")

    return Client(make_server(box), mode="2026-07-28", elicitation_callback=unused)


async def call(
    client: Client, text: str, state: str | None = None
) -> types.CallToolResult | types.InputRequiredResult:
    answers = None if state is None else ACCEPT
    result = await client.session.call_tool(
        "work",
        {"text": text},
        input_responses=answers,
        request_state=state,
        allow_input_required=True,
    )
    assert isinstance(result, types.CallToolResult | types.InputRequiredResult)
    return result


async def test_the_answer_with_the_sealed_state_lets_the_call_run() -> None:
    box = OneTool(gated=True)
    async with client_of(box) as client:
        asked = await call(client, "a")
        assert isinstance(asked, types.InputRequiredResult)
        assert not box.requests
        assert isinstance(await call(client, "a", asked.request_state), types.CallToolResult)
        again = await call(client, "a", asked.request_state)
    assert isinstance(again, types.InputRequiredResult), "an approval is for one call"
    assert len(box.requests) == 1


async def test_a_state_is_for_no_other_arguments() -> None:
    box = OneTool(gated=True)
    async with client_of(box) as client:
        asked = await call(client, "a")
        assert isinstance(asked, types.InputRequiredResult)
        with pytest.raises(MCPError, match="requestState"):
            await call(client, "b", asked.request_state)
    assert not box.requests


async def test_a_state_that_the_server_did_not_make_is_refused() -> None:
    box = OneTool(gated=True)
    async with client_of(box) as client:
        with pytest.raises(MCPError, match="requestState"):
            await call(client, "a", "v1.forged")
    assert not box.requests


async def test_an_answer_to_no_question_is_asked_for() -> None:
    box = OneTool(gated=True)
    async with client_of(box) as client:
        result = await client.session.call_tool(
            "work", {"text": "a"}, input_responses=ACCEPT, allow_input_required=True
        )
    assert isinstance(result, types.InputRequiredResult)
    assert not box.requests
