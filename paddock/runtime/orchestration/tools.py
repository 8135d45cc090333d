"""The tools of a runtime's agents, as handlers of the core's tools: Python tools, and what agents
have by their roles."""

from __future__ import annotations

import asyncio
import copy
import inspect
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.errors import ConfigError
from paddock.runtime.core.calling import is_async
from paddock.runtime.core.jsontext import as_text
from paddock.runtime.core.response_format import problems_of, schema_validator
from paddock.runtime.core.threads import run_in_thread
from paddock.runtime.core.tool import InvalidCall, ToolOutput
from paddock.runtime.orchestration.context import ToolContext
from paddock.runtime.orchestration.values import as_json, told
from paddock.runtime.tools.arguments import fit_arguments, object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.child import ChildTool

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec, ToolSpec

__all__ = ["CallAgent", "PythonTool", "RuntimeTool"]

_log = get_logger(__name__)


class RuntimeTool(ToolHandler):
    """A tool whose result is JSON, or ``{"error": ...}``, and is in the stream as it is."""

    @abstractmethod
    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        """Do it, and return the result. What this raises is the result's error."""

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        run: TeamRun = invocation.context.deps
        failed: dict[str, Any] = {}
        try:
            result = await self.work(invocation.arguments, invocation)
        except InvalidCall:
            raise
        except Exception as error:
            _log.debug("tool %s failed", self.name, exc_info=True)
            result, failed = {"error": told(error)}, {"error": type(error).__name__}
        except SystemExit as error:
            result = {"error": f"it called sys.exit({error.code!r})"}
        result = invocation.context.redactor.value(result)
        run.results[invocation.context.session_id, invocation.call_id] = result
        success = not (isinstance(result, dict) and "error" in result)
        return ToolOutput(content=as_text(result), success=success, metadata=failed)


class PythonTool(RuntimeTool):
    """A tool of the user's: a `ToolSpec` with its handler."""

    def __init__(self, spec: ToolSpec) -> None:
        assert spec.handler is not None, "checked when the runtime was made"
        self.name = spec.name
        self.description = spec.description
        self.parameters = spec.input_schema
        self._handler = spec.handler
        self._input = schema_validator(
            spec.input_schema, source=f"tool {spec.name!r}: input_schema"
        )
        self._output: Validator | None = None
        if spec.output_schema is not None:
            self._output = schema_validator(
                spec.output_schema, source=f"tool {spec.name!r}: output_schema"
            )

    def read_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        fitted = fit_arguments(self.parameters, arguments)
        if problems := problems_of(fitted, self._input):
            raise InvalidCall("; ".join(problems))
        return copy.deepcopy(fitted)  # the handler may change it, and events have it too

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        context, run = invocation.context, invocation.context.deps
        async with run.team.sandboxes.during_call(context.agent_path[-1], run.thread_id) as sandbox:
            result = _plain(await self._call(arguments, ToolContext(run, context, sandbox)))
        if self._output is not None and (problems := problems_of(result, self._output)):
            return {"error": f"the result does not fit its output_schema: {'; '.join(problems)}"}
        return result

    async def _call(self, arguments: dict[str, Any], context: ToolContext) -> Any:
        try:
            if is_async(self._handler):
                return await self._handler(arguments, context)
            result = await run_in_thread(
                lambda: self._handler(arguments, context), name=f"tool {self.name}"
            )
            return await result if inspect.isawaitable(result) else result
        except asyncio.CancelledError:
            context.give_up()
            raise


class CallAgent(RuntimeTool, ChildTool):
    """Has another agent answer a prompt, along the routes of the agent `caller`."""

    name = "call_agent"
    description = "Have another agent work on a prompt, and return its answer."
    is_resumable = True

    def __init__(self, caller: AgentSpec) -> None:
        self._routes = caller.routes
        self.parameters = object_schema(
            required=["agent", "prompt"],
            agent={"type": "string", "description": f"One of {', '.join(caller.routes)}."},
            prompt={"type": "string", "description": "What the agent is to do."},
        )

    async def work(self, arguments: dict[str, Any], invocation: ToolInvocation) -> Any:
        name, prompt = arguments["agent"], arguments["prompt"]
        if name not in self._routes:
            known = ", ".join(self._routes) or "none"
            raise ConfigError(f"there is no route to an agent {name!r}; the routes are {known}")
        if not prompt.strip():
            raise ConfigError("the prompt is empty: say what the agent is to do")
        run: TeamRun = invocation.context.deps
        return await run.team.call_agent(name, prompt, invocation)


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it; raise `TypeError` if it cannot be."""
    try:
        plain, _ = as_json(value)
    except TypeError as error:
        raise TypeError(f"the tool returned what JSON cannot hold: {error}") from None
    return plain
