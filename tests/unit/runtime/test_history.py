"""Whatever the model asks for and whoever interferes, the next request is valid."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddock.runtime.core.approval import ApprovalInterrupt
from paddock.runtime.core.model import ModelRequest, ModelResponse, TextDelta, ToolCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message, ModelEvent
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession


def fast(**_: Any) -> str:
    return "fast"


async def slow(**_: Any) -> str:
    for _step in range(3):
        await asyncio.sleep(0)
    return "slow"


async def swallows(**_: Any) -> str:
    try:
        await asyncio.sleep(0.001)
    except asyncio.CancelledError:
        return "went on"
    return "slept"


def fails(**_: Any) -> str:
    raise RuntimeError("failed")


def asks(**_: Any) -> str:
    return "asked"


class Fuzzy:
    """A model that makes these calls, turn by turn, and then answers."""

    def __init__(self, script: list[list[tuple[str, str, str]]]) -> None:
        self.turns = [
            tuple(ToolCall(id=i, name=n, arguments=a) for i, n, a in calls) for calls in script
        ]

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        calls = self.turns.pop(0) if self.turns else ()
        yield TextDelta(text="t")
        await asyncio.sleep(0)
        yield ModelResponse(text="t", tool_calls=calls)

    async def aclose(self) -> None:
        """Nothing is open."""


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "call_1", "\ud800"]),
        st.sampled_from(["fast", "slow", "fails", "asks", "missing", "swallows"]),
        st.sampled_from(["{}", "", '{"x": 1}', "{", "null", '{"x": "\\ud800"}']),
    ),
    max_size=4,
)
ANSWERS = {"yes": True, "no": False, "later": ApprovalInterrupt(), "fail": OSError("gone")}


@pytest.mark.rows("C43", "C44")
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(CALLS, min_size=1, max_size=3),
    answers=st.lists(st.sampled_from(sorted(ANSWERS)), max_size=4),
    cancel_after=st.none() | st.integers(0, 12),
)
async def test_whatever_happens_history_is_valid_for_the_next_request(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    check_history: Callable[[Sequence[Message]], None],
    script: list[list[tuple[str, str, str]]],
    answers: list[str],
    cancel_after: int | None,
) -> None:
    def approve(tool: str, arguments: dict[str, Any]) -> bool:
        answer = ANSWERS[answers.pop() if answers else "yes"]
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    def show(event: AgentEvent) -> None:
        seen.append(event)
        if cancel_after is not None and len(seen) > cancel_after:
            session.cancel()

    seen: list[AgentEvent] = []
    session = open_session([], fast, slow, swallows, fails, asking(asks), client=Fuzzy(script))
    session.approval_callback = approve
    result = await session.run(prompt="Go.", on_event=show)
    while result.status == "interrupted":
        result = await session.run(prompt="Again.")
    check_history(session.state.messages)
    json.dumps(session.state.messages, ensure_ascii=False).encode()
