"""Functions as the tools of an agent's session: dependencies, progress, images, threads."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    BudgetExceeded,
    ConfigError,
    DelegateHandler,
    ImagePart,
    RunAborted,
    RunContext,
    RunState,
    ScriptedModel,
    Session,
    State,
    ToolFinished,
    ToolHandler,
    ToolProgress,
    tool,
)
from paddock.runtime.core import content
from tests.unit.runtime.stuck import PATIENCE, call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock import ModelRequest
    from tests.unit.runtime.conftest import CountingBackend

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@dataclass
class Shop:
    name: str


@tool
def shop_name(ctx: RunContext[Shop]) -> str:
    return ctx.deps.name


def agent(
    backend: CountingBackend, *tools: Callable[..., Any] | ToolHandler, **config: Any
) -> Agent:
    settings: dict[str, Any] = {"system_prompt": "Help.", "backend": backend, **config}
    return Agent(AgentConfig(**settings), tools=tools)


def calling(*names: str) -> list[dict[str, Any]]:
    return [{"tool_calls": [call(name)]} for name in names] + [{"text": "Done."}]


def results(session: Session) -> list[Any]:
    return [m["content"] for m in session.state.messages if m["role"] == "tool"]


async def test_a_run_gives_its_tools_dependencies_or_else_the_session_does(
    backend: CountingBackend,
) -> None:
    model = ScriptedModel(calling("shop_name") * 3)
    async with Session(agent(backend, shop_name), client=model) as session:
        session.deps = Shop("corner")
        await session.run("Who?")
        await session.run("Who?", deps=Shop("market"))
        await session.run("Who?")
    assert results(session) == ["corner", "market", "corner"]


async def test_agents_that_work_for_it_have_the_same_dependencies(backend: CountingBackend) -> None:
    delegating = {"tool_calls": [call("delegate", instruction="Look.")]}
    turns = [delegating, *calling("shop_name"), {"text": "Done."}]
    given = agent(backend, shop_name, DelegateHandler())
    async with Session(given, client=ScriptedModel(turns)) as session:
        events = session.stream_events("Who?", deps=Shop("market"))
        async with events:
            shown = [envelope.event async for envelope in events]
    assert "market" in [event.content for event in shown if isinstance(event, ToolFinished)]


async def test_dependencies_of_another_type_end_the_run_with_an_error_that_says_so(
    backend: CountingBackend,
) -> None:
    model = ScriptedModel(calling("shop_name"))
    async with Session(agent(backend, shop_name), client=model) as session:
        with pytest.raises(ConfigError, match=r"'shop_name' needs deps of type Shop, not int"):
            await session.run("Who?", deps=5)
    assert session.state.status == "error"


async def test_what_a_tool_may_use_identifies_its_call(backend: CountingBackend) -> None:
    seen: list[RunContext[None]] = []

    def look(ctx: RunContext[None]) -> None:
        seen.append(ctx)

    model = ScriptedModel(calling("look") * 2)
    async with Session(agent(backend, look), client=model, session_id="s") as session:
        await session.run("Go.")
        await session.run("Go.")
    ids = [(each.tool_name, each.session_id, each.run_id, each.agent_path) for each in seen]
    assert ids == [("look", "s", 1, ()), ("look", "s", 2, ())]
    assert {each.call_id for each in seen} == {
        m["tool_call_id"] for m in session.state.messages if m["role"] == "tool"
    }


async def test_a_tool_may_end_the_run(backend: CountingBackend) -> None:
    async def stop() -> None:
        raise RunAborted(BudgetExceeded("cost", limit=1, spent=2))

    async with Session(agent(backend, stop), client=ScriptedModel(calling("stop"))) as session:
        result = await session.run("Go.")
    assert result.status == "budget"
    assert "the budget of 1" in results(session)[0]


async def test_progress_is_shown_before_the_result_from_any_thread_and_is_not_in_the_trace(
    backend: CountingBackend, tmp_path: Path
) -> None:
    def work(ctx: RunContext[None]) -> str:
        ctx.progress("half with secret-value-1")
        ctx.progress("x" * 100_000)
        return "whole"

    async def flood(ctx: RunContext[None]) -> None:
        for number in range(100_000):
            ctx.progress(str(number))

    model = ScriptedModel(calling("work", "flood"))
    async with Session(
        agent(backend, work, flood), client=model, secrets={"KEY": "secret-value-1"},
        session_dir=tmp_path / "s",
    ) as session:  # fmt: skip
        events = session.stream_events("Go.")
        async with events:
            shown = [envelope.event async for envelope in events]
    told = [event.text for event in shown if isinstance(event, ToolProgress)]
    assert told[:2] == ["half with [secret KEY]", "x" * 2000]
    assert len(told) == 102
    assert told[-1] == "99999"
    kinds = [type(event).__name__ for event in shown]
    assert kinds.index("ToolProgress") < kinds.index("ToolFinished")
    assert "half with" not in (tmp_path / "s" / "trace.jsonl").read_text()


async def test_images_are_in_the_history_and_the_trace_and_survive_a_resume(
    backend: CountingBackend, tmp_path: Path
) -> None:
    requests: list[ModelRequest] = []

    class Recording(ScriptedModel):
        async def stream(self, request: ModelRequest) -> Any:
            requests.append(request)
            async for event in super().stream(request):
                yield event

    def draw() -> list[str | ImagePart]:
        return ["A plot:", ImagePart(PNG)]

    # A secret that is also a part of the image's base64: redacting it would break the image.
    secret = base64.b64encode(PNG).decode()[40:60]
    model = Recording(calling("draw"))
    directory = tmp_path / "s"
    async with Session(
        agent(backend, draw), client=model, session_dir=directory, secrets={"KEY": secret}
    ) as session:
        result = await session.run("Draw.")
    text = f"A plot:\n[image/png, {len(PNG)} bytes]"
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    expected = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    assert results(session) == [expected]
    assert requests[-1].messages[-1]["content"] == expected
    assert [e.tool_result for e in result.events if e.type == "tool_end"] == [text]
    read = State.from_jsonl((directory / "trace.jsonl").read_bytes())
    assert read.messages == session.state.messages
    assert read.estimate_tokens() > 1000, "an image counts"
    kept = RunState.from_dict(json.loads(json.dumps(RunState.of(read, "Help.").to_dict())))
    assert kept.to_state().messages == session.state.messages


async def test_too_large_and_too_many_images_are_left_out_and_the_model_told(
    backend: CountingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_IMAGE_BYTES", len(PNG))
    monkeypatch.setattr(content, "MAX_IMAGES", 2)

    def draw() -> list[ImagePart]:
        return [ImagePart(PNG + b"x"), *[ImagePart(PNG)] * 3]

    async with Session(agent(backend, draw), client=ScriptedModel(calling("draw"))) as session:
        await session.run("Draw.")
    text, *images = results(session)[0]
    assert len(images) == 2
    assert text["text"].endswith(
        f"\n[2 of 4 images left out: at most 2 images of at most {len(PNG)} bytes can be shown]"
    )


async def test_large_values_are_cut_as_other_results_are(backend: CountingBackend) -> None:
    def much() -> list[int]:
        return list(range(100_000))

    async with Session(agent(backend, much), client=ScriptedModel(calling("much"))) as session:
        await session.run("Go.")
    (result,) = results(session)
    assert "tokens truncated" in result
    assert len(result) < 25_000


async def test_a_function_that_hangs_holds_up_no_other_session_and_no_cancellation(
    backend: CountingBackend, caplog: pytest.LogCaptureFixture
) -> None:
    begun, release, told = threading.Event(), threading.Event(), threading.Event()

    def hang(ctx: RunContext[None]) -> None:
        ctx.cancellation.on_cancel(told.set)
        begun.set()
        release.wait(PATIENCE)

    def quick() -> str:
        return "quick"

    hanging = Session(agent(backend, hang), client=ScriptedModel(calling("hang")))
    other = Session(agent(backend, quick), client=ScriptedModel(calling("quick")))
    async with hanging, other, asyncio.timeout(PATIENCE):
        run = asyncio.create_task(hanging.run("Go."))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        assert (await other.run("Go.")).status == "completed"
        await hanging.cancel()
        assert (await run).status == "cancelled"
    assert told.is_set()
    assert "hang was cancelled, but cannot be stopped" in caplog.text
    release.set()


def test_two_tools_of_one_name_are_refused(backend: CountingBackend) -> None:
    with pytest.raises(ConfigError, match="two of the agent's tools have the name 'shop_name'"):
        agent(backend, shop_name, shop_name)


def test_a_tool_replaces_the_one_of_the_profile(backend: CountingBackend) -> None:
    @tool(name="read")
    def mine(path: str) -> str:
        return path

    assert agent(backend, mine).registry.get("read") is mine
