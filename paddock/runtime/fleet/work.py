"""What is done with a sandbox for each task: a function, an agent, or a command.

Each is called with a sandbox that nobody has used; what it returns has to have a JSON form.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from paddock.errors import ConfigError, ExecFailed, ExecTimeout
from paddock.runtime.agents.agent import Agent
from paddock.runtime.conversation.results import RunResult
from paddock.runtime.core.calling import call
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.core.yamltext import read_yaml
from paddock.runtime.fleet.metering import AgentMeter
from paddock.runtime.fleet.results import judged
from paddock.runtime.fleet.texts import json_text
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.process import ExecResult
    from paddock.runtime.fleet.tasks import Task
    from paddock.sandbox import Sandbox

__all__ = ["Place", "Work", "as_json", "as_work", "describe_work"]

Solve = Callable[["Sandbox", Any], Awaitable[Any] | Any]

SHOWN = 64 * 1024
"""Characters of a command's stdout in its result; its file has up to `DEFAULT_MAX_OUTPUT`."""

INPUT, KEY = "{input}", "{key}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where work writes its files, how many seconds it has, and the meter of what agents use."""

    folder: Path
    seconds: float | None = None
    meter: AgentMeter = dataclasses.field(default_factory=AgentMeter)


class Work(Protocol):
    async def __call__(self, sandbox: Sandbox, task: Task, place: Place) -> Any: ...

    def describe(self) -> dict[str, Any]:
        """Return what changes what the work does, as JSON."""
        ...


def as_work(given: object) -> Work:
    """Return the work that `given` stands for; raise `ConfigError` if it stands for none."""
    match given:
        case Agent():
            return AgentWork(given)
        case str():
            return CommandWork(given)
        case _ if callable(given):
            return FunctionWork(given)
        case Sequence() if given and all(isinstance(each, str) for each in given):
            return CommandWork(tuple(given))
        case _:
            raise ConfigError(f"work: give a function, an agent or a command, not {given!r}")


def describe_work(work: Work | None) -> dict[str, Any] | None:
    return None if work is None else work.describe()


class FunctionWork:
    """``function(sandbox, task)``; a synchronous one runs in a thread."""

    def __init__(self, function: Solve) -> None:
        self._function = function

    async def __call__(self, sandbox: Sandbox, task: Task, place: Place) -> Any:
        return judged(await call(self._function, sandbox, task.value))

    def describe(self) -> dict[str, Any]:
        name = getattr(self._function, "__qualname__", type(self._function).__qualname__)
        return {"function": f"{getattr(self._function, '__module__', '')}.{name}"}


class AgentWork:
    """A session of `agent` with the task as its prompt; its trace is among the attempt's files."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def __call__(self, sandbox: Sandbox, task: Task, place: Place) -> Any:
        session = Session(self._agent, session_dir=place.folder, sandbox=_Given(sandbox))
        session.attach(place.meter)
        async with session:
            try:
                return judged(await session.run(_prompt(task)))
            finally:
                place.meter.stop()
                place.meter.cost = session.state.usage["cost_usd"]

    def describe(self) -> dict[str, Any]:
        text = self._agent.config.to_yaml(partial=True).decode()
        return {"agent": read_yaml(text, source="the agent").data}


class _Given(LazyResource["Sandbox"]):
    """A sandbox that is there, and somebody else's to close."""

    def __init__(self, sandbox: Sandbox) -> None:
        async def create() -> Sandbox:
            return sandbox

        super().__init__(create, name="sandbox")
        self._sandbox = sandbox

    async def get(self) -> Sandbox:
        return self._sandbox


def _prompt(task: Task) -> str:
    value = task.value
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(
            f"task {task.key!r}: an agent needs a text, or an object with a text as its 'prompt'"
        )
    return prompt


class CommandWork:
    """A command in which ``{input}`` and ``{key}`` stand for those of the task.

    The input is the ``input`` of a task that is an object, else the whole task; what is not a
    text is written as JSON. In a shell command, which is a string, they are quoted.
    """

    def __init__(self, command: str | tuple[str, ...]) -> None:
        self._command = command

    async def __call__(self, sandbox: Sandbox, task: Task, place: Place) -> Any:
        try:
            result = await sandbox.exec(self._filled(task), timeout=place.seconds, check=True)
        except (ExecFailed, ExecTimeout) as error:
            _keep(error.result, sandbox, place.folder)
            raise
        shown = _keep(result, sandbox, place.folder)
        return {"exit_code": 0, "stdout": shown.stdout[-SHOWN:]}

    def describe(self) -> dict[str, Any]:
        return {"command": self._command}

    def _filled(self, task: Task) -> str | list[str]:
        value = task.value
        given = value.get("input", value) if isinstance(value, dict) else value
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        texts = {INPUT: text, KEY: task.key}
        if isinstance(self._command, str):
            return _replaced(self._command, {key: shlex.quote(each) for key, each in texts.items()})
        return [_replaced(each, texts) for each in self._command]


def _replaced(text: str, texts: dict[str, str]) -> str:
    """Replace all at once: an input that contains ``{key}`` is left as it is."""
    first, *rest = [text] if INPUT not in text else text.split(INPUT)
    parts = [each.replace(KEY, texts[KEY]) for each in (first, *rest)]
    return texts[INPUT].join(parts)


def _keep(result: ExecResult, sandbox: Sandbox, folder: Path) -> ExecResult:
    """Write the output to files, without secrets; return the result without them."""
    shown = result.redacted(sandbox.redactor)
    for name, text in (("stdout", shown.stdout), ("stderr", shown.stderr)):
        (folder / name).write_text(text, errors="surrogatepass")
    return shown


def as_json(value: object) -> str:
    """Return the JSON of what work returned; raise `ConfigError` if it has none."""
    try:
        return json_text(value, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"what was returned cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, RunResult):  # its events are in the trace
        return {"text": value.text, "usage": value.usage, "output": value.output}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")
