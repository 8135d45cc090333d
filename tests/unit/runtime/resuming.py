"""Models and tools of runs that are left and resumed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from paddock import (
    Agent,
    AgentConfig,
    MemoryConversationStore,
    ScriptedModel,
    Session,
    SqliteConversationStore,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)
from paddock.runtime.conversation.traces import DirectoryConversationStore
from tests.unit.runtime.deploying import call

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock import ModelRequest

PATIENCE = 60
USAGE = {"input_tokens": 10, "output_tokens": 1, "cost_usd": 0.5}

STORES = [
    pytest.param(lambda _: MemoryConversationStore(), id="memory"),
    pytest.param(lambda path: DirectoryConversationStore(path / "kept"), id="directory"),
    pytest.param(lambda path: SqliteConversationStore(path / "c.db"), id="sqlite"),
]


class Model(ScriptedModel):
    """Says what `answer` returns for each request, and counts its answers."""

    def __init__(self, answer: Callable[[ModelRequest], dict[str, Any]]) -> None:
        super().__init__([self._answer] * 99)
        self._say = answer
        self.answers = 0

    def _answer(self, request: ModelRequest) -> dict[str, Any]:
        self.answers += 1
        return {"usage": USAGE, **self._say(request)}


def said(request: ModelRequest) -> list[str]:
    """The results that the model has got for the last prompt."""
    found: list[str] = []
    for message in request.messages:
        found = [] if message["role"] == "user" else found
        if message["role"] == "tool":
            found.append(message["content"])
    return found


class Step(ToolHandler):
    """Hangs the first time that each call comes, until it is cancelled."""

    description = "A step."
    parameters: ClassVar[dict[str, Any]] = {"type": "object", "additionalProperties": True}

    def __init__(self, name: str = "step", *, resumable: bool = True, asks: bool = False) -> None:
        self.name = name
        self.is_resumable = resumable
        self.requires_approval = asks
        self.began = asyncio.Event()
        self.seen: list[tuple[str, dict[str, Any], bool]] = []

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        context = invocation.context
        self.seen.append((invocation.call_id, invocation.arguments, context.is_resumed))
        if not context.is_resumed:
            self.began.set()
            await asyncio.Event().wait()
        return ToolOutput("stepped")


def agent(*tools: ToolHandler, **config: Any) -> Agent:
    made = Agent(AgentConfig(system_prompt="x", auto_approve=False, **config))
    made.registry.clear()
    for each in tools:
        made.registry.register(each)
    return made


async def leave(session: Session, began: asyncio.Event, prompt: str = "Go.") -> Any:
    """Cancel a run of `prompt` once `began`."""
    async with asyncio.timeout(PATIENCE):
        run = asyncio.create_task(session.run(prompt))
        await began.wait()
        session.cancel()
        return await run


def calls(*names: str) -> Callable[[ModelRequest], dict[str, Any]]:
    """A model that calls these tools in one turn, and then says their results."""

    def answer(request: ModelRequest) -> dict[str, Any]:
        if found := said(request):
            return {"text": "; ".join(found)}
        return {"tool_calls": [call(name, f"{name}-1", x=1) for name in names]}

    return answer
