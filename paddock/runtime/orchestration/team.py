"""The agents of a runtime, as agents of the core."""

from __future__ import annotations

import functools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.records import usage_of
from paddock.runtime.orchestration import roles
from paddock.runtime.orchestration.catalog.tools import CATALOG_TOOLS
from paddock.runtime.orchestration.limits import agent_budget
from paddock.runtime.orchestration.plan_tools import (
    ExecutePlan,
    GetPlan,
    GlimpseRef,
    ResolveRef,
    StorePlan,
)
from paddock.runtime.orchestration.policy import ToolApprovals
from paddock.runtime.orchestration.providers import model_of
from paddock.runtime.orchestration.run import conversation_key
from paddock.runtime.orchestration.runs import Runs
from paddock.runtime.orchestration.summaries import usage_fields
from paddock.runtime.orchestration.tools import CallAgent, PythonTool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.runtime.core.approval import ApprovalPolicy, ProposedCall
    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.orchestration.catalog.data import AgentData
    from paddock.runtime.orchestration.interpreters import Interpreter
    from paddock.runtime.orchestration.plans import Plans
    from paddock.runtime.orchestration.references import References
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.sandboxes import Sandboxes
    from paddock.runtime.orchestration.spec import AgentSpec, RuntimeSpec, ToolApprovalPredicate
    from paddock.runtime.orchestration.store import TenantStore
    from paddock.runtime.tools.base import ToolHandler
    from paddock.runtime.tools.registry import ToolRegistry

__all__ = ["Team"]


_MAKERS: Mapping[str, Callable[[AgentSpec], ToolHandler]] = {
    roles.CALL_AGENT: CallAgent,
    roles.STORE_PLAN: StorePlan,
    roles.GET_PLAN: lambda _: GetPlan(),
    roles.EXECUTE_PLAN: ExecutePlan,
    roles.RESOLVE_REF: lambda _: ResolveRef(),
    roles.GLIMPSE_REF: lambda _: GlimpseRef(),
}
"""The built-in tools of an agent, by their names, but for those that read data."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """What all runs of a runtime have in common. `interpreters` answer its agents, by name."""

    spec: RuntimeSpec
    store: TenantStore
    sandboxes: Sandboxes
    interpreters: Mapping[str, Interpreter]
    references: References
    plans: Plans
    data: AgentData
    predicates: Mapping[str, ToolApprovalPredicate]
    services: Mapping[str, Any]
    approval_ttl: float | None
    _agents: dict[str, Agent] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._agents.update({spec.name: self._make(spec) for spec in self.spec.agents})

    @property
    def runs(self) -> Runs:
        """The runs of the tenant."""
        return Runs(self.store.runs)

    def interpreter(self, name: str) -> Interpreter:
        """Return what answers the agent `name`."""
        return self.interpreters[name]

    def registry(self, name: str) -> ToolRegistry:
        """Return the tools of the agent `name`."""
        return self._agents[name].registry

    def agent(self, name: str, run: TeamRun) -> Agent:
        """Return the agent `name`, for one run."""
        return self._agents[name].copy(
            model=self.interpreter(name).client(run),
            servers_in=functools.partial(self.sandboxes.get, name, run.thread_id),
        )

    def _make(self, spec: AgentSpec) -> Agent:
        """Return the agent of `spec`, with its own tools and no others.

        What the environment says of agents at a terminal does not apply to it.
        """
        provider, model = model_of(spec)
        interpreter = self.interpreter(spec.name)
        config = AgentConfig(
            system_prompt=_as_text(spec.system_prompt),
            model=model,
            prices=None if provider is None else self.spec.providers[provider].prices,
            profile="readonly",
            backend=self.sandboxes.recipe(spec.name),
            base_url=None,
            service_tier=None,
            reasoning_effort=None,
            auto_approve=False,
            on_refusal="continue",
            mcp_servers=self.spec.mcp_servers if interpreter.uses_servers else (),
        )
        registry = interpreter.registry([*self._tools(spec), *interpreter.more_tools()])
        return Agent(config).copy(registry=registry)

    def spec_of(self, name: str) -> AgentSpec:
        spec = self.spec.agent(name)
        assert spec is not None, "routes and entries are checked before"
        return spec

    def policy(self) -> ApprovalPolicy:
        """Return which calls need an approval, whichever agent makes them."""
        return _Policies(
            {
                agent.name: ToolApprovals(spec=self.spec, agent=agent, predicates=self.predicates)
                for agent in self.spec.agents
            }
        )

    async def call_agent(self, name: str, prompt: str, invocation: ToolInvocation) -> Any:
        """Have the agent `name` answer `prompt` for the agent that makes this call."""
        run: TeamRun = invocation.context.deps
        agent, spec = self.agent(name, run), self.spec_of(name)
        bracket = {"type": "tool-agent", "agentName": name, "toolInvocationId": uuid.uuid4().hex}
        await run.emit(bracket | {"state": "call"})
        thread_id = run.thread_of((*invocation.context.agent_path, name))
        try:
            report = await invocation.context.run_agent(
                prompt,
                name=name,
                agent=agent,
                conversation=conversation_key(thread_id, name) if spec.stateful else None,
                budget=agent_budget(spec),
                max_turns=spec.max_turns,
            )
        except Exception:
            await run.emit(bracket | {"state": "result"})
            raise
        await run.emit(bracket | {"state": "result"})
        usage = usage_fields(usage_of(report.usage))
        data = {"agentName": name, "model": agent.config.model, "usage": usage}
        await run.emit({"type": "data-tool-agent", "data": data})
        if report.status != "completed":
            because = f": {report.reason}" if report.reason else ""
            return {"error": f"the agent {name!r} did not finish ({report.status}{because})"}
        return {"agent": name, "response": report.text}

    def _builtin(self, name: str, agent: AgentSpec) -> ToolHandler:
        return CATALOG_TOOLS[name]() if name in CATALOG_TOOLS else _MAKERS[name](agent)

    def _tools(self, agent: AgentSpec) -> list[ToolHandler]:
        given = [self._builtin(name, agent) for name in self.spec.builtin_tools(agent)]
        return [*given, *map(PythonTool, agent.tools)]


@dataclass(frozen=True)
class _Policies:
    """Asks the policy of the agent that makes a call."""

    policies: Mapping[str, ApprovalPolicy]

    async def requires_approval(self, call: ProposedCall) -> bool:
        return await self.policies[call.agent_path[-1]].requires_approval(call)


def _as_text(prompt: str) -> str:
    """Return `prompt` so that a configuration takes it for a text, and not for a file's name."""
    return f"{prompt}\n" if not prompt or prompt.endswith(".md") else prompt
