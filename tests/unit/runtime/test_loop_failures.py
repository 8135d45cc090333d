"""How runs end that fail: the model, the sandbox, a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import SandboxLost, SetupFailed
from paddock.runtime.core.model import ModelRequest, TextDelta
from paddock.runtime.models.scripted import ScriptedModel
from paddock.sandbox import ExecResult
from tests.unit.runtime.answering import RawModel
from tests.unit.runtime.loops import call, echo, results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message, ModelEvent
    from tests.unit.runtime.conftest import CountingBackend, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


async def test_a_model_that_fails_ends_the_run_as_an_error_and_the_next_run_works(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    fails = ScriptedModel([{"error": "overloaded", "status": 529}])
    session = open_session([], client=fails)
    result = await session.run(prompt="Go.")
    assert result.status == session.state.status == "error"
    assert result.events[-1].type == "error"
    assert result.events[-1].content == "API error 529 (after retries): overloaded"
    check_history(session.state.messages)


async def test_a_stream_without_an_answer_is_an_error_and_its_text_is_kept(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    class Cut(RawModel):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            yield TextDelta(text="I was ")

    session = open_session([], client=Cut())
    result = await session.run(prompt="Go.")
    assert (result.status, result.text) == ("error", "I was ")
    assert session.state.messages[-1] == {"role": "assistant", "content": "I was "}
    check_history(session.state.messages)


async def test_a_sandbox_that_cannot_be_made_ends_the_run_with_its_error(
    open_session: OpenSession, backend: CountingBackend, check_history: CheckHistory
) -> None:
    failure = SetupFailed("make", ExecResult(exit_code=2))
    object.__setattr__(backend, "error", failure)

    async def work(context: Any) -> str:
        await context.sandbox()
        return "worked"

    session = open_session([{"tool_calls": [call("work"), call("work")]}], work)
    seen: list[AgentEvent] = []
    with pytest.raises(SetupFailed):
        await session.run(prompt="Go.", on_event=seen.append)
    assert seen[-1].type == "error"
    assert session.state.status == "error"
    check_history(session.state.messages)


@pytest.mark.parametrize("name", ["SandboxLost", "ArgumentError", "UnknownTool", "ToolDisabled"])
async def test_an_exception_of_somebody_else_means_nothing_by_its_name(
    open_session: OpenSession, name: str
) -> None:
    def fails() -> str:
        raise type(name, (Exception,), {})("theirs")

    session = open_session([{"tool_calls": [call("fails")]}] * 10 + [{"text": "I gave up."}], fails)
    result = await session.run("Go.")
    assert (result.status, result.text) == ("completed", "I gave up.")


async def test_a_lost_sandbox_ends_the_run(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def lost() -> str:
        raise SandboxLost("out of memory")

    session = open_session([{"tool_calls": [call("lost"), call("echo")]}], lost, echo)
    with pytest.raises(SandboxLost, match="out of memory"):
        await session.run(prompt="Go.")
    assert results(session.state.messages)[1].startswith("Not run")
    check_history(session.state.messages)


async def test_a_callback_that_fails_ends_the_run_and_leaves_the_history_valid(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def show(event: AgentEvent) -> None:
        if event.type == "tool_start":
            raise KeyError("display")

    session = open_session([{"tool_calls": [call("echo"), call("echo")]}], echo)
    with pytest.raises(KeyError):
        await session.run(prompt="Go.", on_event=show)
    assert session.state.status == "error"
    check_history(session.state.messages)
