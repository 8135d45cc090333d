"""Which calls need an approval, by the rules of a runtime, its agents and their tools."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

from paddock.runtime.approvals.policies import AskWhen
from paddock.runtime.orchestration.fields import ApprovalRule, ApprovalRules, DynamicApproval
from paddock.runtime.orchestration.roles import EXECUTE_PLAN
from paddock.runtime.permissions.profile import MCP_MARK

if TYPE_CHECKING:
    from paddock.runtime.core.approval import ProposedCall
    from paddock.runtime.orchestration.spec import (
        AgentSpec,
        RuntimeSpec,
        ToolApprovalPredicate,
        ToolSpec,
    )

__all__ = [
    "ToolApprovals",
    "plan_rule",
    "predicates_of",
    "tool_rule",
    "warn_about_ungated_tools",
]

DEFAULT_PLANS: Literal["always"] = "always"
DEFAULT_TOOLS: Literal["never"] = "never"


def plan_rule(spec: RuntimeSpec, agent: AgentSpec) -> Literal["never", "always"]:
    """Return whether the execution of a plan by `agent` needs an approval.

    Of the runtime's default, its floor and the agent's own rule, the last that says something.
    """
    return agent.approval.plans or _floor(spec).plans or DEFAULT_PLANS


def tool_rule(spec: RuntimeSpec, agent: AgentSpec, tool: str) -> ApprovalRule:
    """Return the rule for calls of `tool` by `agent`.

    Of the runtime's default, its floor, the agent's rule, the tool's own and the agent's
    `tool_approvals`, the last that says something. A Python tool always says something, and so
    does an MCP server with ``approval: always``. The execution of a plan has a rule of its own, see
    `plan_rule`.
    """
    if tool in agent.tool_approvals:
        return agent.tool_approvals[tool]
    if tool == EXECUTE_PLAN:
        return "never"
    own = next((each for each in agent.tools if each.name == tool), None)
    if own is not None:
        return own.approval
    server, mark, _ = tool.partition(MCP_MARK)
    if mark and any(each.name == server for each in spec.mcp_servers if each.always_asks):
        return "always"
    return _rule_around(spec, agent)


def _floor(spec: RuntimeSpec) -> ApprovalRules:
    if spec.approval_policies is not None:
        return spec.approval_policies
    return ApprovalRules() if spec.coordinator is None else spec.coordinator.approval


def _rule_around(spec: RuntimeSpec, agent: AgentSpec) -> ApprovalRule:
    """Return the rule for tools of `agent` that say nothing themselves."""
    return agent.approval.tools or _floor(spec).tools or DEFAULT_TOOLS


def warn_about_ungated_tools(spec: RuntimeSpec) -> None:
    """Warn once about each Python tool that says nothing, where a rule around it is stricter.

    Such a tool runs without an approval.
    """
    ungated = {
        tool.name: agent.name
        for agent in spec.agents
        if _rule_around(spec, agent) != "never"
        for tool in agent.tools
        if _says_nothing(tool) and tool.name not in agent.tool_approvals
    }
    for tool, agent_name in ungated.items():
        warnings.warn(
            f"the tool {tool!r} of agent {agent_name!r} runs without an approval, though the rules "
            "for tools ask for one: a Python tool without `approval` says 'never'. Give it "
            "approval='always' or 'never', or name it in the agent's tool_approvals",
            UserWarning,
            stacklevel=4,  # the line that calls `create_runtime`
        )


def _says_nothing(tool: ToolSpec) -> bool:
    return "approval" not in tool.model_fields_set


def predicates_of(
    spec: RuntimeSpec, given: Mapping[str, ToolApprovalPredicate] | None = None
) -> dict[str, ToolApprovalPredicate]:
    """Return the predicates by their ids: those of tools, and before them those `given`.

    Raise `ValueError` for a rule that names an unknown predicate, or two different ones.
    """
    found: dict[str, ToolApprovalPredicate] = {}
    for tool in (tool for agent in spec.agents for tool in agent.tools):
        predicate = tool.approval_predicate
        if not isinstance(tool.approval, DynamicApproval) or predicate is None:
            continue
        if found.setdefault(tool.approval.value, predicate) is not predicate:
            raise ValueError(
                f"tool {tool.name!r}: another tool's predicate has the id "
                f"{tool.approval.value!r}, too; give binding_id"
            )
    if not isinstance(given, Mapping | None):
        raise TypeError(f"approval_predicates: give a mapping, not {type(given).__name__}")
    for name, predicate in (given or {}).items():
        if not callable(predicate):
            raise ValueError(f"approval_predicates[{name!r}] is not a function: {predicate!r}")
        found[name] = predicate
    for place, rule in _rules(spec):
        if isinstance(rule, DynamicApproval) and rule.value not in found:
            raise ValueError(
                f"{place}: there is no predicate {rule.value!r}; give it in approval_predicates"
            )
    return found


def _rules(spec: RuntimeSpec) -> list[tuple[str, ApprovalRule | None]]:
    """Return every rule for tools with the place where it stands."""
    rules = [("approval_policies", _floor(spec).tools)]
    for agent in spec.agents:
        rules.append((f"agent {agent.name!r}", agent.approval.tools))
        rules += [(f"tool {tool.name!r}", tool.approval) for tool in agent.tools]
        rules += [
            (f"agent {agent.name!r}, tool {name!r}", rule)
            for name, rule in agent.tool_approvals.items()
        ]
    return rules


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolApprovals:
    """The `ApprovalPolicy` of one agent. `predicates` has each that a rule names."""

    spec: RuntimeSpec
    agent: AgentSpec
    predicates: Mapping[str, ToolApprovalPredicate]

    async def requires_approval(self, call: ProposedCall) -> bool:
        rule = tool_rule(self.spec, self.agent, call.tool)
        match rule:
            case "never":
                return False
            case "always":
                return True
            case DynamicApproval():
                predicate = self.predicates[rule.value]
                context = {
                    "kind": "tool",
                    "target": call.tool,
                    "tenant": self.spec.tenant.resource_id,
                    "agent": self.agent.name,
                }
                asks = AskWhen(lambda proposed: predicate(proposed.args, context))
                return await asks.requires_approval(call)
            case _:
                assert_never(rule)
