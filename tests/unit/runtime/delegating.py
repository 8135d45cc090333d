"""An agent that may delegate, and one that works for it: their scripts, and what comes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from paddock import (
    Agent,
    AgentConfig,
    ScriptedModel,
    Session,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from paddock import ModelRequest, RunResult
    from paddock.runtime.core.model import ModelEvent
    from paddock.runtime.tools.delegate import DelegateHandler

__all__ = [
    "CHILD_USAGE",
    "USAGE",
    "Touch",
    "Two",
    "delegating",
    "running",
    "session_of",
    "told",
]

USAGE = {"input_tokens": 100, "output_tokens": 10, "cost_usd": 0.25}
CHILD_USAGE = {"input_tokens": 7, "output_tokens": 3, "cost_usd": 0.5}


def delegating(instruction: str = "Count the files.", **arguments: Any) -> dict[str, Any]:
    call = {"name": "delegate", "arguments": {"instruction": instruction, **arguments}}
    return {"text": "I hand it on.", "tool_calls": [call], "usage": USAGE}


def running(command: str) -> dict[str, Any]:
    call = {"name": "bash", "arguments": {"command": command}}
    return {"tool_calls": [call], "usage": CHILD_USAGE}


class Two:
    """A model of two scripts: one for the agent that may delegate, one for the other."""

    def __init__(self, parent: Sequence[Any], child: Sequence[Any]) -> None:
        self._scripts = {True: ScriptedModel(parent), False: ScriptedModel(child)}
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        names = {tool["function"]["name"] for tool in request.tools}
        if "delegate" not in names:
            self.requests.append(request)
        async for event in self._scripts["delegate" in names].stream(request):
            yield event

    async def aclose(self) -> None:
        """There is nothing to close."""


def session_of(
    client: Two,
    *,
    directory: Path | None = None,
    handler: DelegateHandler | None = None,
    **config: Any,
) -> Session:
    agent = Agent(AgentConfig(**{"system_prompt": "Help.", "profile": "developer"} | config))
    if handler is not None:
        agent.registry.register(handler)
    return Session(agent, client=client, session_dir=directory)


def told(result: RunResult) -> tuple[str, dict[str, Any]]:
    """What the tool said, and its metadata."""
    (end,) = [event for event in result.events if event.type == "tool_end"]
    return end.tool_result or "", end.tool_metadata or {}


class Touch(ToolHandler):
    name = "touch"
    description = "Says which sandbox it is in."
    parameters: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}}

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        return ToolOutput((await invocation.context.sandbox()).id)
