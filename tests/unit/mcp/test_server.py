"""A toolbox served over MCP, to the official client, in both eras of the protocol."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from paddock.runtime.core.content import ImagePart
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.mcp import progress as reports
from paddock.runtime.mcp.server import make_server
from tests.unit.mcp.toolboxes import ERAS, OneTool, text_of

if TYPE_CHECKING:
    from paddock.runtime.mcp.toolbox import ToolRequest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)

pytestmark = pytest.mark.parametrize("era", ERAS)


class Person:
    """Answers what a server asks, and remembers it."""

    def __init__(self, action: Any, feedback: str | None = None) -> None:
        self.asked: list[str] = []
        self._answer = types.ElicitResult(
            action=action, content=None if feedback is None else {"feedback": feedback}
        )

    async def __call__(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return self._answer


async def test_a_client_sees_the_tools_and_gets_their_results(era: str) -> None:
    box = OneTool()
    async with Client(make_server(box), mode=era) as client:
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.description) == ("work", "Work.")
        assert tool.input_schema["properties"] == {"text": {"type": "string"}}
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint
        result = await client.call_tool("work", {"text": "x"})
    assert not result.is_error
    assert text_of(result) == "work ran with {'text': 'x'}"


async def test_an_unknown_tool_is_an_error_of_the_protocol(era: str) -> None:
    async with Client(make_server(OneTool()), mode=era) as client:
        with pytest.raises(MCPError, match="Unknown tool: other"):
            await client.call_tool("other", {})


@pytest.mark.rows("F-41")
async def test_a_gated_call_runs_when_the_clients_user_approves_it(era: str) -> None:
    box, person = OneTool(gated=True), Person("accept")
    async with Client(make_server(box), mode=era, elicitation_callback=person) as client:
        result = await client.call_tool("work", {"text": "rm -rf"})
    assert not result.is_error
    assert [request.approved for request in box.requests] == [
        "to run the tool 'work' with\ntext: rm -rf"
    ]
    assert person.asked == ["test-box asks to run the tool 'work' with\ntext: rm -rf"]


@pytest.mark.rows("F-41")
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_gated_call_that_is_refused_does_not_run(era: str, action: str) -> None:
    box, person = OneTool(gated=True), Person(action)
    async with Client(make_server(box), mode=era, elicitation_callback=person) as client:
        result = await client.call_tool("work", {"text": "x"})
    assert result.is_error
    assert "the user did not approve this call" in text_of(result)
    assert not box.requests


async def test_what_the_user_says_with_a_refusal_reaches_the_model(era: str) -> None:
    person = Person("decline", feedback="not in my house")
    server = make_server(OneTool(gated=True))
    async with Client(server, mode=era, elicitation_callback=person) as client:
        result = await client.call_tool("work", {})
    assert text_of(result).endswith("not in my house")


@pytest.mark.rows("F-34")
async def test_a_client_that_cannot_ask_gets_the_tool_error_at_once(era: str) -> None:
    box = OneTool(gated=True)
    async with Client(make_server(box), mode=era) as client:
        result = await client.call_tool("work", {"text": "x"})
    assert result.is_error
    assert "cannot ask its user" in text_of(result)
    assert not box.requests


async def test_long_arguments_are_shown_with_both_ends(era: str) -> None:
    person = Person("accept")
    server = make_server(OneTool(gated=True))
    async with Client(server, mode=era, elicitation_callback=person) as client:
        await client.call_tool("work", {"text": "begin " + "x" * 50_000 + " end"})
    (asked,) = person.asked
    assert "text: begin" in asked
    assert asked.endswith(" end")
    assert "characters left out" in asked
    assert len(asked) < 5000


async def test_a_long_result_is_cut_and_an_image_is_passed_on(era: str) -> None:
    async def work(_request: ToolRequest) -> ToolOutput:
        return ToolOutput(content="y" * 1_000_000, images=[ImagePart(PNG)])

    async with Client(make_server(OneTool(work)), mode=era) as client:
        result = await client.call_tool("work", {})
    text, image = result.content
    assert isinstance(text, types.TextContent)
    assert len(text.text) < 25_000
    assert isinstance(image, types.ImageContent)
    assert image.mime_type == "image/png"


async def test_a_tool_that_fails_is_a_result_with_an_error(era: str) -> None:
    async def work(_request: ToolRequest) -> ToolOutput:
        raise RuntimeError("out of paper")

    async with Client(make_server(OneTool(work)), mode=era) as client:
        result = await client.call_tool("work", {})
        assert result.is_error
        assert "out of paper" in text_of(result)
        assert (await client.list_tools()).tools  # the server lives


@pytest.mark.rows("F-34")
async def test_a_call_that_takes_too_long_is_cancelled_and_an_error(era: str) -> None:
    ended = asyncio.Event()

    async def work(_request: ToolRequest) -> ToolOutput:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with Client(make_server(OneTool(work), call_timeout=0.05), mode=era) as client:
        result = await client.call_tool("work", {})
    assert result.is_error
    assert "took longer than 0.05 s" in text_of(result)
    assert ended.is_set()


@pytest.mark.rows("F-41")
async def test_a_tool_reports_progress_and_one_that_is_silent_is_said_to_run(
    era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "BEAT", 0.01)
    heard: list[tuple[float, str | None]] = []
    enough = asyncio.Event()

    async def work(request: ToolRequest) -> ToolOutput:
        await asyncio.to_thread(request.report, "phase 1")
        await enough.wait()
        return ToolOutput(content="done")

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))
        if len(heard) >= 3:
            enough.set()

    async with Client(make_server(OneTool(work)), mode=era) as client:
        await client.call_tool("work", {}, progress_callback=hear)
    numbers = [number for number, _ in heard]
    assert numbers == sorted(set(numbers))
    assert "phase 1" in [message for _, message in heard]
    assert any("running for" in str(message) for _, message in heard)


async def test_a_cancelled_call_has_ended_its_tool(era: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(_request: ToolRequest) -> ToolOutput:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # clean-up that waits is not cut short
            ended.set()
        raise AssertionError

    async with Client(make_server(OneTool(work)), mode=era) as client:
        call = asyncio.create_task(client.call_tool("work", {}))
        await asyncio.wait_for(begun.wait(), 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(ended.wait(), 20)
        assert (await client.list_tools()).tools
