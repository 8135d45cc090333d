"""The tools of one agent of a runtime, for MCP clients: each call is a run of that agent, in which
it makes this call and no other. So approvals, plans, references and sandboxes are what they are."""

from __future__ import annotations

import copy
import functools
import json
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from paddock._concurrency import finish
from paddock.runtime.approvals.policies import needs_approval
from paddock.runtime.core.approval import ProposedCall
from paddock.runtime.core.jsontext import as_text
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.core.tool import InvalidCall, ToolOutput
from paddock.runtime.orchestration import roles
from paddock.runtime.orchestration.approvals import respond
from paddock.runtime.orchestration.interpreters import Scripted
from paddock.runtime.orchestration.lifecycle import begin
from paddock.runtime.orchestration.policy import plan_rule
from paddock.runtime.orchestration.store import TenantStore, open_store
from paddock.runtime.session.servers import host_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from paddock.runtime.mcp.toolbox import ServedTool, ToolRequest
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.spec import AgentSpec
    from paddock.runtime.orchestration.stream import EventStream, WireEvent
    from paddock.runtime.orchestration.team import Team
    from paddock.runtime.tools.base import ToolHandler
    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

__all__ = ["RuntimeToolbox", "list_tools"]

NOBODY = "no one can be asked to approve this now"


def list_tools(team: Team, agent: str, *, expose_agent_tools: bool) -> list[dict[str, Any]]:
    """Return name, description and schema of the tools of `agent` that clients may call.

    Those that have other agents work are among them only if `expose_agent_tools`, and those of MCP
    servers are not: which there are is known when they are connected. Raise `ValueError` for an
    unknown agent.
    """
    return [
        {
            "name": spec["function"]["name"],
            "description": spec["function"]["description"],
            "inputSchema": copy.deepcopy({**spec["function"]["parameters"], "type": "object"}),
        }
        for spec in _registry(team, agent, expose_agent_tools=expose_agent_tools).get_specs()
    ]


def _registry(team: Team, agent: str, *, expose_agent_tools: bool) -> ToolRegistry:
    if team.spec.agent(agent) is None:
        known = ", ".join(each.name for each in team.spec.agents) or "none"
        raise ValueError(f"there is no agent {agent!r}; there are {known}")
    registry = team.registry(agent)
    return registry if expose_agent_tools else registry.without([roles.CALL_AGENT])


class RuntimeToolbox:
    """The `Toolbox` of one agent. `start` begins a run, and gives its events.

    All calls are in the thread `thread_id`, or in one of this toolbox; so they share a sandbox,
    which lasts as long as the ``async with`` block. So do the connections to the runtime's MCP
    servers, whose tools it has, too. Entering it raises `ConfigError` for one that cannot be
    reached.
    """

    def __init__(
        self,
        team: Team,
        agent: str,
        *,
        thread_id: str | None,
        expose_agent_tools: bool,
        start: Callable[[Team, str, Callable[[TeamRun], Any]], EventStream],
    ) -> None:
        self._registry = _registry(team, agent, expose_agent_tools=expose_agent_tools)
        self._exposes_agents = expose_agent_tools
        self._agent = _forgetful(team, agent)
        self._store = open_store("memory:")
        self._team = replace(
            team,
            # What waits here is answered here at once: no worker is to continue it.
            store=TenantStore(self._store, team.spec.tenant.resource_id),
            interpreters={**team.interpreters, agent: _OneCall()},
        )
        self._thread_id = thread_id or f"mcp-{uuid.uuid4().hex}"
        self._start = start
        self._stack = AsyncExitStack()
        self.name = agent
        self.instructions = None

    async def __aenter__(self) -> Self:
        during = self._team.sandboxes.during_run(self._thread_id, keep=False)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(during)
            stack.push_async_callback(self._store.aclose)
            if self._team.spec.mcp_servers:
                self._offer(await self._connect(stack))
            self._stack = stack.pop_all()
        return self

    async def _connect(self, stack: AsyncExitStack) -> Sequence[ToolHandler]:
        """Connect to the runtime's MCP servers until `stack` ends, and return their tools."""
        from paddock.runtime.tools.mcp.tools import McpServers

        host: LazyResource[Sandbox] = LazyResource(host_sandbox, name="host of MCP servers")
        stack.push_async_callback(host.aclose)
        sandbox = functools.partial(self._team.sandboxes.get, self.name, self._thread_id)
        servers = McpServers(self._team.spec.mcp_servers, sandbox=sandbox, host=host.get)
        stack.push_async_callback(servers.aclose)
        return await servers.connect()

    def _offer(self, tools: Sequence[ToolHandler]) -> None:
        """Have the agent's registry and its runs offer `tools`, but those whose names it has."""
        one_call = _OneCall(more=tuple(tool for tool in tools if tool.name not in self._registry))
        self._team = replace(
            self._team, interpreters={**self._team.interpreters, self.name: one_call}
        )
        self._registry = _registry(self._team, self.name, expose_agent_tools=self._exposes_agents)

    async def __aexit__(self, *_error: object) -> None:
        await finish(self._stack.aclose())

    def tools(self) -> Sequence[ServedTool]:
        from paddock.runtime.mcp.toolbox import ServedTool

        return [
            ServedTool(
                name=name,
                description=spec["function"]["description"],
                parameters=spec["function"]["parameters"],
                reads_only=self._registry.is_concurrent(name),
            )
            for spec in self._registry.get_specs()
            for name in [spec["function"]["name"]]
        ]

    async def approval(self, name: str, arguments: dict[str, Any]) -> str | None:
        from paddock.runtime.mcp.toolbox import shown_call

        if self._problem(name, arguments) is not None:
            return None  # the call says it
        proposed = ProposedCall(
            tool=name,
            args=copy.deepcopy(arguments),
            session_id=self._thread_id,
            agent_path=(self._agent.name,),
        )
        if await needs_approval(self._team.policy(), proposed):
            return shown_call(name, arguments)
        if name == roles.EXECUTE_PLAN and plan_rule(self._team.spec, self._agent) == "always":
            plan = await self._team.plans.get(arguments["planId"])
            return None if plan is None else _shown_plan(plan)
        return None

    def _problem(self, name: str, arguments: dict[str, Any]) -> str | None:
        """Return what is wrong with the arguments of a call, if anything is."""
        handler = self._registry.get(name)
        assert handler is not None, "the server knows the tools"
        try:
            handler.read_arguments(copy.deepcopy(arguments))
        except InvalidCall as error:
            return f"Invalid arguments for tool '{name}': {error}"
        return None

    async def call(self, request: ToolRequest) -> ToolOutput:
        problem = self._problem(request.name, request.arguments)
        if problem is not None:
            return ToolOutput(content=problem, success=False)
        prompt = json.dumps({"tool": request.name, "args": request.arguments})
        stream = self._start(
            self._team, self._thread_id, lambda run: begin(run, self._agent, prompt)
        )
        call = _Call(self._team, self._agent.name, request)
        try:
            async for event in stream:
                await call.take(event)
        finally:
            await stream.aclose()
            await self._team.runs.kept.change(stream.run_id, lambda _: None)
        return call.output


@dataclass(frozen=True)
class _OneCall(Scripted):
    """Makes one call of a tool that is served: of the agent's own, or one of `more`.

    These are of MCP servers, which are connected as long as they are served, not for each run."""

    more: tuple[ToolHandler, ...] = ()
    uses_servers: ClassVar[bool] = False

    def more_tools(self) -> tuple[ToolHandler, ...]:
        return self.more


def _forgetful(team: Team, agent: str) -> AgentSpec:
    """Return the agent `agent` without a memory: calls neither read it nor wait for each other."""
    return team.spec_of(agent).model_copy(update={"stateful": False})


class _Call:
    """What the events of one call come to."""

    def __init__(self, team: Team, agent: str, request: ToolRequest) -> None:
        self._team = team
        self._agent = agent
        self._request = request
        self._own: str | None = None
        self.output = ToolOutput(content="the call gave no result", success=False)

    async def take(self, event: WireEvent) -> None:
        match event["type"]:
            case "tool-invocation":
                self._own = self._own or event["toolInvocationId"]
                if event["toolInvocationId"] == self._own and event["state"] == "result":
                    self.output = _output(event["result"])
            case "tool-progress":
                told = f"{event['label']} ({event['phaseIndex']} of {event['totalPhases']})"
                self._request.report(told)
            case "approval-required":
                await self._answer(event["data"])
            case "error":
                self.output = ToolOutput(content=event["error"]["message"], success=False)

    async def _answer(self, asked: dict[str, Any]) -> None:
        """Answer what waits for an approval: never let it wait."""
        what, ask = _shown_approval(asked), self._request.ask
        approved = asked["agentPath"] == self._agent and what == self._request.approved
        if not approved and ask is not None:
            approved = await ask(what)
        await respond(
            self._team.store.approvals,
            asked["id"],
            "approve" if approved else "reject",
            feedback=None if approved or ask is not None else NOBODY,
            partial=None,
            by="mcp client",
        )


def _shown_approval(asked: dict[str, Any]) -> str:
    from paddock.runtime.mcp.toolbox import shown_call

    if asked["kind"] == "plan":
        return _shown_plan(asked["payload"])
    return shown_call(asked["target"], asked["payload"])


def _shown_plan(plan: dict[str, Any]) -> str:
    return f"to execute the plan {plan['id']!r}:\n{json.dumps(plan, indent=2, ensure_ascii=False)}"


def _output(result: Any) -> ToolOutput:
    failed = isinstance(result, dict) and "error" in result
    return ToolOutput(content=as_text(result), success=not failed)
