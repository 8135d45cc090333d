"""Whatever a model asks for, whoever decides, cancels, crashes or comes back: the history is
one that a provider takes, and the trace gives the same state back."""

from __future__ import annotations

import asyncio
import functools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from paddock.runtime.conversation.state import State
from paddock.runtime.core.approval import ApprovalInterrupt
from paddock.runtime.core.budget import Budget
from paddock.runtime.core.model import ModelRequest, ModelResponse, TextDelta, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from paddock.runtime.conversation.results import AgentEvent, RunResult
    from paddock.runtime.core.model import Message, ModelEvent
    from paddock.runtime.session.session import Session
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


@functools.cache
def openai_messages() -> TypeAdapter[Any]:
    """What the service's own client takes."""
    from openai.types.chat import ChatCompletionMessageParam

    return TypeAdapter(list[ChatCompletionMessageParam])


class Asked:
    """A model that makes a turn's calls, then answers; every request is checked."""

    def __init__(self, turns: Sequence[Sequence[tuple[str, str]]], check: CheckHistory) -> None:
        self.turns = list(turns)
        self.check = check

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.check(request.messages[1:])
        openai_messages().validate_python(request.messages)
        calls = self.turns.pop() if self.turns else ()
        yield TextDelta(text="t")
        await asyncio.sleep(0)
        yield ModelResponse(
            text="t",
            tool_calls=tuple(ToolCall(id="", name=n, arguments=a) for n, a in calls),
            usage=Usage(input_tokens=7, cost_usd=0.25),
        )

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Step:
    """One thing that is done with the session, and what befalls it."""

    what: str
    """prompt, decide, decide some, refuse, compact."""
    answer: str | None
    """Of the callback; None is no callback."""
    stop_after: int
    """Events until `how` happens."""
    how: str
    """nothing, cancel, task, crash, torn crash, budget."""


STEPS = st.builds(
    Step,
    what=st.sampled_from(["prompt", "decide", "decide some", "refuse", "compact"]),
    answer=st.sampled_from([None, "yes", "no", "later"]),
    stop_after=st.integers(0, 9),
    how=st.sampled_from(["nothing", "cancel", "task", "crash", "torn crash", "budget"]),
)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["fast", "slow", "fails", "asks", "missing"]),
        st.sampled_from(["{}", '{"x": 1}', "{"]),
    ),
    max_size=3,
)


class Crash:
    """An observer that keeps what was on the disk when the process died."""

    def __init__(self, trace: Path, step: Step) -> None:
        self.trace = trace
        self.left = step.stop_after
        self.torn = step.how == "torn crash"
        self.found: bytes | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        self.left -= 1
        if self.left < 0 and self.found is None:
            self.found = self.trace.read_bytes() + (b'{"type":"mess' if self.torn else b"")

    def happened(self) -> bool:
        """Whether there was such a moment; then the trace is again as it was there."""
        if self.found is not None:
            self.trace.write_bytes(self.found)
        return self.found is not None


def fast(**_: Any) -> str:
    return "fast"


async def slow(**_: Any) -> str:
    await asyncio.sleep(0)
    return "slow"


def fails(**_: Any) -> str:
    raise RuntimeError("failed")


def asks(**_: Any) -> str:
    return "asked"


@pytest.mark.rows("C40", "C43", "O-20")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(CALLS, max_size=6), steps=st.lists(STEPS, min_size=1, max_size=5))
async def test_any_interleaving_leaves_a_valid_history_and_a_trace_that_tells_it(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    check_history: CheckHistory,
    turns: list[list[tuple[str, str]]],
    steps: list[Step],
) -> None:
    model = Asked(turns, check_history)
    tools = fast, slow, fails, asking(asks)
    with tempfile.TemporaryDirectory() as name:
        trace = Path(name, "trace.jsonl")
        for step in steps:
            session = open_session(
                [], *tools, session_dir=Path(name), client=model, config={"auto_approve": False}
            )
            crash = Crash(trace, step)
            session.recover()
            session.state.add_observer(crash)
            await take(session, step)
            check(session.state, trace, check_history)
            if "crash" in step.how and crash.happened():
                again = open_session([], *tools, session_dir=Path(name), client=model)
                again.recover()
                check(again.state, trace, check_history)
        last = open_session([], *tools, session_dir=Path(name), client=Asked([], check_history))
        assert (await last.run("At last.")).status == "completed"
        check(last.state, trace, check_history)


async def take(session: Session, step: Step) -> None:
    """Do `step` to the end that it comes to."""

    def show(event: AgentEvent) -> None:
        shown.append(event)
        if len(shown) > step.stop_after:
            if step.how == "cancel":
                session.cancel()
            elif step.how == "task":
                task.cancel()

    def approve(tool: str, arguments: dict[str, Any]) -> bool:
        if step.answer == "later":
            raise ApprovalInterrupt
        return step.answer == "yes"

    shown: list[AgentEvent] = []
    session.approval_callback = approve if step.answer else None
    session.budget = Budget(turns=step.stop_after) if step.how == "budget" else None
    task = asyncio.ensure_future(work(session, step, show))
    await asyncio.wait([task])
    if not task.cancelled() and (result := task.result()) is not None:
        assert result.status == session.state.status
        assert bool(result.interruptions) == (result.status == "interrupted")


async def work(
    session: Session, step: Step, show: Callable[[AgentEvent], None]
) -> RunResult | None:
    waiting = session.state.pending_approvals
    may_compact = session.state.messages and not waiting and step.how != "budget"
    if step.what == "compact" and may_compact:
        await session.compact()
        return None
    goes_on = waiting or is_decided(session.state)
    if not goes_on or step.what in ("prompt", "compact"):
        return await session.run("Go.", on_event=show)
    decided = waiting[:1] if step.what == "decide some" else waiting
    decisions = {item.tool_call_id: step.what != "refuse" for item in decided}
    return await session.resume(decisions, on_event=show)


def is_decided(state: State) -> bool:
    """Whether somebody decided about a call, and its process died before that took effect."""
    return any(call.decision and not call.started for call in state.open_calls)


def check(state: State, trace: Path, check_history: CheckHistory) -> None:
    loaded = State.from_jsonl(trace.read_bytes())
    for name in ("messages", "status", "run_count", "usage", "open_calls", "pending_approvals"):
        assert getattr(loaded, name) == getattr(state, name), name
    assert State.from_jsonl(state.to_jsonl()).pending_approvals == state.pending_approvals
    if state.open_calls:
        assert state.status == "interrupted"
        assert state.pending_approvals or is_decided(state)
        return
    check_history(state.messages)
    openai_messages().validate_python(json.loads(json.dumps(state.messages)))
