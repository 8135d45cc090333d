"""A history that is put into fewer words: when asked for, and when it fills the window."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import BudgetExceeded, ModelError, SessionError
from paddock.runtime.conversation.results import CompactResult
from paddock.runtime.conversation.state import SUMMARY_PREFIX, State
from paddock.runtime.core.budget import Budget
from paddock.runtime.models.context_window import context_window
from paddock.runtime.models.scripted import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message, ModelEvent, ModelRequest
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "arguments": arguments}


def wants_summary(request: ModelRequest) -> bool:
    return "Write a summary" in str(request.messages[-1]["content"])


@pytest.mark.rows("S-22", "S-14")
async def test_compaction_asks_the_model_with_the_whole_conversation(
    open_session: OpenSession, tmp_path: Path
) -> None:
    requests: list[ModelRequest] = []

    def keep(request: ModelRequest) -> dict[str, Any]:
        requests.append(request)
        return {"text": "They said hello.", "usage": {"input_tokens": 5}}

    session = open_session([keep, keep, keep], session_dir=tmp_path)
    await session.run(prompt="Hello.")
    result = await session.compact("Mind the names.")
    after = session.state.estimate_tokens()
    assert result == CompactResult("They said hello.", 5, after, "manual")
    assert requests[1].messages[0] == {"role": "system", "content": "Help."}
    assert requests[1].messages[:2] == requests[0].messages[:2]
    assert requests[1].messages[-1]["content"].endswith("Mind the names.")
    assert requests[1].tools == requests[0].tools
    assert session.state.get_user_messages() == ["Hello.", SUMMARY_PREFIX + "They said hello."]
    assert session.state.usage["input_tokens"] == 10
    loaded = State.from_jsonl((tmp_path / "trace.jsonl").read_bytes())
    assert loaded.messages == session.state.messages


@pytest.mark.rows("S-22")
async def test_only_the_last_three_prompts_stay_beside_a_summary(open_session: OpenSession) -> None:
    session = open_session([{"text": str(number)} for number in range(4)] + [{"text": "Four."}])
    for prompt in "abcd":
        await session.run(prompt=prompt)
    await session.compact()
    assert session.state.messages == [
        {"role": "user", "content": text} for text in ("b", "c", "d", SUMMARY_PREFIX + "Four.")
    ]


@pytest.mark.rows("S-22")
@pytest.mark.parametrize(
    ("told_tokens", "characters", "compacts"),
    [(69, 0, False), (71, 0, True), (0, 4 * 60, False), (0, 4 * 71, True)],
)
async def test_a_history_is_compacted_above_seven_tenths_of_the_window_told_or_estimated(
    open_session: OpenSession, tmp_path: Path, told_tokens: int, characters: int, compacts: bool
) -> None:
    def turn(request: ModelRequest) -> dict[str, Any]:
        return {"text": "x" * max(characters, 1), "usage": {"input_tokens": told_tokens}}

    def later(request: ModelRequest) -> dict[str, Any]:
        return {"text": "Short." if wants_summary(request) else "Done."}

    session = open_session([turn, later, later], session_dir=tmp_path)
    session.context_window = 100
    await session.run(prompt="Go.")
    result = await session.run(prompt="On.")
    assert ("compact_start" in [event.type for event in result.events]) is compacts
    assert session.state.get_user_messages()[-1].startswith(SUMMARY_PREFIX) is compacts
    trace = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    triggers = [line["trigger"] for line in trace if line["type"] == "compact"]
    assert triggers == ["auto"] * compacts


async def test_a_history_that_fills_the_window_is_compacted_by_itself(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    def quick() -> str:
        return "quick"

    def turn(request: ModelRequest) -> dict[str, Any]:
        last = request.messages[-1]
        if wants_summary(request):
            return {"text": "Summary."}
        if last["role"] == "user" and SUMMARY_PREFIX in last["content"]:
            return {"text": "Done."}
        return {"tool_calls": [call("quick")], "usage": {"input_tokens": 71}}

    session = open_session([turn] * 9, quick)
    session.context_window = 100
    result = await session.run(prompt="Go.")
    kinds = [event.type for event in result.events]
    assert kinds.count("compact_start") == kinds.count("compact_end") == 1
    assert result.text == "Done."
    check_history(session.state.messages)
    session.auto_compact = False
    session.state.last_input_tokens = 1000
    assert "compact_start" not in [e.type for e in (await session.run(prompt="More.")).events]


async def test_a_compaction_that_fails_leaves_the_history(open_session: OpenSession) -> None:
    session = open_session([{"text": "Hi."}, {"text": " "}])
    await session.run(prompt="Hello.")
    with pytest.raises(ModelError, match="no summary"):
        await session.compact()
    assert len(session.state.messages) == 2
    with pytest.raises(SessionError, match="nothing to compact"):
        await open_session([]).compact()


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("gpt-5-mini", 400_000),
        ("claude-sonnet-4-5", 200_000),
        ("gemini-2.5-pro", 1_048_576),
        ("a-model-of-our-own", None),
    ],
)
async def test_the_size_of_a_models_context_is_known_by_its_name(
    model: str, size: int | None
) -> None:
    assert await context_window(model) == size


@pytest.mark.rows("S-22")
@pytest.mark.parametrize(("tokens", "compacts"), [(279_000, False), (281_000, True)])
async def test_a_history_that_fills_what_its_model_is_known_to_take_is_compacted(
    open_session: OpenSession, tokens: int, compacts: bool
) -> None:
    def turn(request: ModelRequest) -> dict[str, Any]:
        if wants_summary(request):
            return {"text": "All."}
        return {"text": "On.", "usage": {"input_tokens": tokens}}

    session = open_session([turn] * 4, config={"model": "gpt-5-mini"})
    await session.run("One.")
    result = await session.run("Two.")
    assert ("compact_end" in [event.type for event in result.events]) == compacts


class Speechless:
    """A model that answers once, and then never."""

    def __init__(self) -> None:
        self._script = ScriptedModel([{"text": "Hello."}])
        self._answered = False
        self.asked = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if self._answered:
            self.asked.set()
            await asyncio.Event().wait()
        self._answered = True
        async for event in self._script.stream(request):
            yield event

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_compaction_is_cancelled_as_a_run_is(
    open_session: OpenSession, tmp_path: Path, how: str
) -> None:
    client = Speechless()
    session = open_session([], client=client, session_dir=tmp_path)
    await session.run("Hi.")
    before = session.state.get_messages()
    compacting = asyncio.create_task(session.compact())
    async with asyncio.timeout(60):
        await client.asked.wait()
        if how == "close":
            await session.close()
        else:
            await session.cancel()
        with pytest.raises(SessionError, match="the compaction was cancelled"):
            await compacting
    assert session.state.messages == before
    assert not (tmp_path / "cancel").exists()


async def test_a_compaction_ends_with_the_time_of_its_budget(open_session: OpenSession) -> None:
    session = open_session([], client=Speechless())
    await session.run("Hi.")
    session.budget = Budget(seconds=0.05)
    async with asyncio.timeout(60):
        with pytest.raises(BudgetExceeded):
            await session.compact()


async def test_a_compaction_leaves_calls_that_wait_for_an_approval_alone(
    open_session: OpenSession, asking: Callable[[Function], ToolHandler]
) -> None:
    def danger() -> str:
        raise AssertionError("nobody approved it")

    session = open_session(
        [{"tool_calls": [call("danger")]}], asking(danger), config={"auto_approve": False}
    )
    waiting = (await session.run("Go.")).interruptions
    with pytest.raises(SessionError, match="calls wait for an approval"):
        await session.compact()
    assert session.state.pending_approvals == waiting != ()
