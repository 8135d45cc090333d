"""What answers the agents of a runtime: nothing, a mock, a script, or the models themselves.

All are `ModelClient`s, so the one loop runs with any of them. Text that a client gives only with
its whole answer, and not piece by piece, is for the history: no event has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from paddock.runtime.core.model import ModelResponse, TextDelta, ToolCall
from paddock.runtime.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paddock.runtime.core.model import Message, ModelClient, ModelEvent, ModelRequest
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.tools.base import ToolHandler

__all__ = ["Interpreter", "Mock", "Models", "Noop", "Scripted", "TestingConfig"]

NO_ANSWER = "(no model was called)"
"""What the history has of an answer without any text."""


class TestingConfig:
    """Have each agent answer `mock_response` instead of calling its model.

    Raises `ValueError` without it or with another key, and `TypeError` if it is not text.
    """

    __test__ = False  # no class of tests, whatever its name says

    def __init__(self, **given: Any) -> None:
        if "mockResponse" in given:
            given["mock_response"] = given.pop("mockResponse")
        if unknown := given.keys() - {"mock_response"}:
            raise ValueError(f"testing has no {', '.join(sorted(unknown))}; give mock_response")
        if "mock_response" not in given:
            raise ValueError("testing: give mock_response, the text of each answer")
        self.mock_response = given["mock_response"]
        if not isinstance(self.mock_response, str):
            kind = type(self.mock_response).__name__
            raise TypeError(f"testing: mock_response is a text, not {kind}")

    @classmethod
    def of(cls, given: TestingConfig | Mapping[str, Any]) -> TestingConfig:
        """Return `given`, or what a mapping says."""
        if isinstance(given, TestingConfig):
            return given
        if not isinstance(given, Mapping):
            raise TypeError(f"testing: give a TestingConfig, not {type(given).__name__}")
        return cls(**given)

    def __repr__(self) -> str:
        return f"TestingConfig(mock_response={self.mock_response!r})"


class Interpreter:
    """Answers one kind of agents. `steps` says whether each answer is a step of its own, or the
    whole run of an agent is one."""

    steps: ClassVar[bool] = False
    sums_up: ClassVar[bool] = True
    """Whether the stream has a summary of how long things took."""
    registry: ClassVar[type[ToolRegistry]] = ToolRegistry
    uses_servers: ClassVar[bool] = True
    """Whether the agent has the tools of MCP servers, which are then connected for its run."""

    def client(self, run: TeamRun) -> ModelClient:
        """Return what answers an agent in `run`."""
        raise AssertionError("defined by each interpreter")

    def more_tools(self) -> Sequence[ToolHandler]:
        """Return the tools that the agent has besides those of its spec."""
        return ()


@dataclass(frozen=True)
class Mock(Interpreter):
    """Answers `text`."""

    text: str
    uses_servers: ClassVar[bool] = False

    def client(self, run: TeamRun) -> ModelClient:
        return _Fixed(self.text)


@dataclass(frozen=True)
class Noop(Interpreter):
    """Answers nothing."""

    sums_up: ClassVar[bool] = False
    uses_servers: ClassVar[bool] = False

    def client(self, run: TeamRun) -> ModelClient:
        return _Fixed("")


class _PatientTools(ToolRegistry):
    """Tools for a script, which ends by itself."""

    is_patient = True


@dataclass(frozen=True)
class Scripted(Interpreter):
    """Makes the calls that the prompt lists: ``{"tool", "args"}``, or such ones as ``script``."""

    registry: ClassVar[type[ToolRegistry]] = _PatientTools

    def client(self, run: TeamRun) -> ModelClient:
        return _Script(run)


@dataclass(frozen=True)
class Models(Interpreter):
    """Has `model` answer."""

    model: ModelClient
    steps: ClassVar[bool] = True

    def client(self, run: TeamRun) -> ModelClient:
        return self.model


class _Client:
    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class _Fixed(_Client):
    text: str

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if self.text:
            yield TextDelta(text=self.text)
        yield _answer(self.text)


@dataclass(frozen=True)
class _Script(_Client):
    """Keeps no state but the count of calls that the run shares: the history says how far the
    script is."""

    run: TeamRun

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        prompt, after = _last_prompt(request.messages)
        script = read_script(prompt)
        if script is None:
            if prompt:
                yield TextDelta(text=prompt)
            yield _answer(prompt)
            return
        done = sum(message["role"] == "assistant" for message in after)
        if done < len(script):
            self.run.scripted_calls += 1
            name, arguments = script[done]
            number = f"scripted-tool-{self.run.scripted_calls}"
            call = ToolCall(id=number, name=name, arguments=json.dumps(arguments))
            yield ModelResponse(tool_calls=(call,), finish_reason="tool_calls", is_priced=True)
        else:
            yield _answer(_last_result(after))


def read_script(prompt: str) -> list[tuple[str, Any]] | None:
    """Return the calls that `prompt` lists, names with arguments; None if it is no script."""
    try:
        content = json.loads(prompt)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, Mapping):
        return None
    calls = content["script"] if content.keys() == {"script"} else [content]
    if not isinstance(calls, list) or not all(map(_is_call, calls)):
        return None
    return [(call["tool"], call.get("args", {})) for call in calls]


def _is_call(entry: object) -> bool:
    return (
        isinstance(entry, Mapping)
        and entry.keys() <= {"tool", "args"}
        and isinstance(entry.get("tool"), str)
        and isinstance(entry.get("args", {}), Mapping)
    )


def _last_prompt(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """Return the last message of the user's, and what came after it."""
    for number in range(len(messages) - 1, -1, -1):
        if messages[number]["role"] == "user":
            content = messages[number]["content"]
            return content if isinstance(content, str) else "", messages[number + 1 :]
    return "", ()


def _last_result(messages: Sequence[Message]) -> str:
    results = [each["content"] for each in messages if each["role"] == "tool"]
    return str(results[-1]) if results else ""


def _answer(text: str) -> ModelResponse:
    return ModelResponse(text=text if text.strip() else NO_ANSWER, is_priced=True)
