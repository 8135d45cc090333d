"""Agents in memory: scripted models, tools that are functions, sandboxes that only count."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import pytest

from paddock.backends.base import Backend
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.runtime.tools.base import ToolHandler
from paddock.sandbox import Command, Process, Sandbox
from tests.unit.runtime.deploying import NOBODY, TURNS, Deploys, echo

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.base import ProgressCallback
    from paddock.runtime.core.model import Message, ModelClient

Function = Callable[..., str | Awaitable[str]]


class FunctionTool(ToolHandler):
    """A tool that calls `function` with its arguments; its name is the function's."""

    description = "A function."
    parameters: Final[dict[str, Any]] = {"type": "object", "additionalProperties": True}

    def __init__(self, function: Function, *, asks: bool = False) -> None:
        self.name = function.__name__
        self.requires_approval = asks
        self._function = function

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = dict(invocation.arguments)
        if "context" in inspect.signature(self._function).parameters:
            arguments["context"] = invocation.context
        answer = self._function(**arguments)
        return ToolOutput(content=await answer if inspect.isawaitable(answer) else answer)


class CountingSandbox(Sandbox):
    """Runs nothing; says when it was closed."""

    capabilities = frozenset()

    def __init__(self, owner: CountingBackend) -> None:
        self._owner = owner
        self.id = "counting"
        self.backend = "counting"
        self.working_dir = PurePosixPath("/")
        self.env = {}

    async def _start(self, command: Command) -> Process:
        raise NotImplementedError(command)

    async def _close(self) -> None:
        await asyncio.sleep(0)
        self._owner.live.remove(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class CountingBackend(Backend):
    """Makes sandboxes and knows which are there. `error` is raised instead of making one."""

    name: ClassVar[str] = "counting"

    live: list[Sandbox] = field(default_factory=list, repr=False)
    made: list[Sandbox] = field(default_factory=list, repr=False)
    error: Exception | None = None

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        sandbox = CountingSandbox(self)
        self.live.append(sandbox)
        self.made.append(sandbox)
        return sandbox


class OpenSession(Protocol):
    def __call__(
        self,
        turns: Sequence[Any],
        *tools: Function | ToolHandler,
        session_dir: Path | None = None,
        client: ModelClient | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Session: ...


@pytest.fixture
def backend() -> CountingBackend:
    return CountingBackend()


@pytest.fixture
def open_session(backend: CountingBackend) -> OpenSession:
    """``open_session(turns, *tools)`` is a session whose model says `turns`."""

    def make(
        turns: Sequence[Any],
        *tools: Function | ToolHandler,
        session_dir: Path | None = None,
        client: ModelClient | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Session:
        settings: dict[str, Any] = {"backend": backend, "system_prompt": "Help."}
        agent = Agent(AgentConfig(**settings | dict(config or {})))
        for tool in tools:
            agent.registry.register(tool if isinstance(tool, ToolHandler) else FunctionTool(tool))
        return Session(agent, session_dir=session_dir, client=client or ScriptedModel(turns))

    return make


def let_run_at_once(session: Session) -> None:
    """Let the calls of all its tools run at the same time."""
    registry = session.registry
    for name in registry:
        handler = registry.get(name)
        assert handler is not None
        registry.register(handler, concurrent=True)


@pytest.fixture
def asking() -> Callable[[Function], ToolHandler]:
    """``asking(function)`` is a tool whose calls need approval."""
    return lambda function: FunctionTool(function, asks=True)


@pytest.fixture
def deploys() -> Deploys:
    return Deploys()


@pytest.fixture
def waiting(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    deploys: Deploys,
    tmp_path: Path,
) -> Callable[[], Session]:
    """Opens the session of one directory: two of three calls need an approval."""
    return lambda: open_session(
        TURNS, echo, asking(deploys.deploy), session_dir=tmp_path / "one", config=NOBODY
    )


@pytest.fixture
def check_history() -> Callable[[Sequence[Message]], None]:
    """Fails unless a provider would take these messages: every call answered once, in place."""
    return _check_history


def _check_history(messages: Sequence[Message]) -> None:
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert waiting, f"a result without a call: {message}"
            assert message["tool_call_id"] == waiting.pop(0), "results are in the calls' order"
            assert isinstance(message["content"], str)
            message["content"].encode()
            continue
        assert not waiting, f"calls without results: {waiting}"
        assert message["role"] in {"user", "assistant"}
        waiting = [call["id"] for call in message.get("tool_calls", ())]
        assert all(waiting)
        assert len(set(waiting)) == len(waiting)
        assert message.get("content") is not None or waiting
    assert not waiting, f"calls without results: {waiting}"
