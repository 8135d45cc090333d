"""What a multi-agent runtime is made of, as frozen data.

All models take snake_case and camelCase and dump camelCase. What can be called, such as a
handler, a predicate or a glimpse, is on the model and never in a dump, and does not count when two
models are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from paddock.runtime.orchestration.fields import (
    AgentLimits,
    ApprovalRule,
    ApprovalRules,
    BackendSpec,
    Flag,
    JsonSchema,
    McpServerSpec,
    ModelSpec,
    Name,
    PlanDisplayAlias,
    ProviderSpec,
    Rules,
    SandboxScope,
    Spec,
    TenantIdentity,
    Toolkit,
    ToolkitSpec,
    Whole,
    as_aliases,
    as_id,
    check_agent_name,
    check_tool_name,
)
from paddock.runtime.orchestration.roles import (
    RESERVED,
    STATEFUL,
    TOOLKITS,
    Role,
    builtin_tools,
)
from paddock.runtime.orchestration.schemas import resolved
from paddock.runtime.permissions.profile import MCP_MARK

__all__ = [
    "AgentSpec",
    "Glimpse",
    "PlanSpec",
    "ReferenceSpec",
    "RuntimeSpec",
    "ToolApprovalPredicate",
    "ToolSpec",
    "ToolSpecHandler",
]

Glimpse = Callable[[Any], Any]
"""Given a reference's value, return what a prompt shows of it. JSON."""

ToolSpecHandler = Callable[[dict[str, Any], Any], Any]
"""Given a call's arguments and the tool context, return the result. May be async."""

ToolApprovalPredicate = Callable[[dict[str, Any], Mapping[str, Any]], Awaitable[bool] | bool]
"""Given a call's arguments and a mapping of `kind`, `target`, `tenant` and `agent`. True asks for
an approval."""


class ToolSpec(Spec):
    """A tool that an agent may call, and its handler if it has one. See `define_tool`.

    A tool whose `approval` was not given says "never".
    """

    name: Annotated[str, AfterValidator(check_tool_name)]
    input_schema: JsonSchema
    description: str = ""
    approval: ApprovalRule = "never"
    output_schema: JsonSchema | None = None
    binding_id: Name | None = None
    handler: Annotated[ToolSpecHandler | None, SkipJsonSchema()] = Field(
        default=None, exclude=True, repr=False
    )
    approval_predicate: Annotated[ToolApprovalPredicate | None, SkipJsonSchema()] = Field(
        default=None, exclude=True, repr=False
    )

    @model_validator(mode="after")
    def _takes_an_object(self) -> Self:
        schema = self.input_schema
        if resolved(schema, schema).get("type", "object") != "object":
            raise ValueError(f"tool {self.name!r}: its arguments are an object, not {schema}")
        return self

    def bind(self, handler: ToolSpecHandler) -> ToolSpec:
        """Return a copy that runs `handler`. Raise `TypeError` if that cannot be called."""
        if not callable(handler):
            raise TypeError(f"tool {self.name!r}: give a function, not {type(handler).__name__}")
        return self.model_copy(update={"handler": handler})

    def __call__(self, handler: ToolSpecHandler) -> ToolSpec:
        """As a decorator: `bind`."""
        return self.bind(handler)


class PlanSpec(Spec):
    """A kind of plan: the JSON Schema of its body, with an array `actions`."""

    name: Name
    json_schema: JsonSchema = Field(alias="schema")
    display_aliases: Annotated[tuple[PlanDisplayAlias, ...], BeforeValidator(as_aliases)] = ()

    @model_validator(mode="after")
    def _has_actions(self) -> Self:
        body = resolved(self.json_schema, self.json_schema)
        actions = resolved(body.get("properties", {}).get("actions", {}), self.json_schema)
        if actions.get("type") != "array":
            raise ValueError(f"plan {self.name!r}: its schema has no array 'actions' at its top")
        return self

    @property
    def schema(self) -> dict[str, Any]:  # type: ignore[override]
        """The JSON Schema of a plan's body."""
        return self.json_schema


class ReferenceSpec(Spec):
    """A kind of reference: the JSON Schema of its values, how long one is kept, its glimpse."""

    name: Name
    json_schema: JsonSchema = Field(alias="schema")
    ttl_ms: Whole | None = Field(default=None, ge=0)
    glimpse: Annotated[Glimpse | None, SkipJsonSchema()] = Field(
        default=None, exclude=True, repr=False
    )

    @property
    def schema(self) -> dict[str, Any]:  # type: ignore[override]
        """The JSON Schema of the values."""
        return self.json_schema


class AgentSpec(Spec):
    """An agent. `define_coordinator` and its like make one of a role.

    - `approval` has rules for all its calls, and `tool_approvals` for tools by name.
    - `stateful`: it remembers earlier prompts of its thread; coordinators and planners do.
    - `max_turns` are model calls of one run.
    - `backend`, `sandbox` and `limits`: where they say nothing, those of the runtime apply.
    """

    name: Annotated[Name, AfterValidator(check_agent_name)]
    role: Role
    model: Annotated[ModelSpec, BeforeValidator(as_id)]
    system_prompt: str = ""
    routes: tuple[Name, ...] = ()
    plan: PlanSpec | Name | None = None
    tools: tuple[ToolSpec, ...] = ()
    toolkits: tuple[Toolkit, ...] = ()
    approval: Rules = ApprovalRules()
    tool_approvals: dict[str, ApprovalRule] = Field(default_factory=dict)
    stateful: Flag | None = None
    max_turns: Whole | None = Field(default=None, gt=0)
    limits: AgentLimits = AgentLimits()
    backend: BackendSpec = None
    sandbox: SandboxScope | None = None

    def __init__(self, **fields: Any) -> None:  # type checkers take text for a model, and lists
        super().__init__(**fields)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        agent = f"agent {self.name!r}"
        _refuse_twice(agent, "toolkit", (each.id for each in self.toolkits))
        _refuse_twice(agent, "tool", (each.name for each in self.tools))
        for tool in self.tools:
            if tool.name in RESERVED:
                raise ValueError(f"{agent}: {tool.name!r} is the name of a built-in tool")
        known = {*self.builtin_tools(), *(tool.name for tool in self.tools)}
        for name in self.tool_approvals:
            if name not in known and MCP_MARK not in name:  # which the runtime knows
                raise ValueError(
                    f"{agent}: tool_approvals names {name!r}, which is not one of its tools "
                    f"({', '.join(sorted(known)) or 'it has none'})"
                )
        if self.stateful is None:
            object.__setattr__(self, "stateful", self.role in STATEFUL)
        return self

    def builtin_tools(self, narrowed: Mapping[str, Iterable[str] | None] = {}) -> tuple[str, ...]:
        """Return the names of the tools of its role and its toolkits.

        `narrowed` has the tools of toolkits that the runtime narrows.
        """
        taken = {each.id: each.config.tools for each in self.toolkits}
        tools = builtin_tools(self.role, routes=bool(self.routes), toolkits=taken)
        return tuple(each for each in tools if _is_left(each, narrowed))


class RuntimeSpec(Spec):
    """A tenant, its agents and all that they use. See `define_runtime`.

    Plans and toolkits of the agents are among its own.
    """

    tenant: TenantIdentity
    agents: tuple[AgentSpec, ...]
    references: tuple[ReferenceSpec, ...] = ()
    plans: tuple[PlanSpec, ...] = ()
    toolkits: tuple[Toolkit, ...] = ()
    approval_policies: Rules | None = None
    providers: dict[Name, ProviderSpec] = Field(default_factory=dict)
    mcp_servers: tuple[McpServerSpec, ...] = ()
    backend: BackendSpec = None
    sandbox: SandboxScope | None = None
    limits: AgentLimits = AgentLimits()

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        _refuse_twice("this runtime", "agent", (each.name for each in self.agents))
        _refuse_twice("this runtime", "toolkit", (each.id for each in self.toolkits))
        _refuse_twice("this runtime", "MCP server", (each.name for each in self.mcp_servers))
        coordinators = [each.name for each in self.agents if each.role == "coordinator"]
        if len(coordinators) > 1:
            raise ValueError(f"more than one coordinator: {', '.join(map(repr, coordinators))}")
        for agent in self.agents:
            self._check_routes(agent)
            self._check_server_tools(agent)
        self._attach()
        for agent in self.agents:
            self._check_plan(agent)
        return self

    def _check_server_tools(self, agent: AgentSpec) -> None:
        """Raise `ValueError` for a rule about a tool of an unknown server."""
        servers = {each.name for each in self.mcp_servers}
        for name in agent.tool_approvals:
            if MCP_MARK in name and name.partition(MCP_MARK)[0] not in servers:
                raise ValueError(
                    f"agent {agent.name!r}: tool_approvals names {name!r}, and there is no MCP "
                    f"server of that name ({', '.join(sorted(servers)) or 'there is none'})"
                )

    def _check_routes(self, agent: AgentSpec) -> None:
        if agent.role == "coordinator" and not agent.routes:
            raise ValueError(f"agent {agent.name!r}: a coordinator needs at least one route")
        _refuse_twice(f"agent {agent.name!r}", "route", agent.routes)
        names = {each.name for each in self.agents}
        for route in agent.routes:
            if route == agent.name:
                raise ValueError(f"agent {agent.name!r}: the route {route!r} leads to itself")
            if route not in names:
                raise ValueError(
                    f"agent {agent.name!r}: the route {route!r} leads to no agent; "
                    f"there are {', '.join(sorted(names))}"
                )

    def _attach(self) -> None:
        plans = [each.plan for each in self.agents if isinstance(each.plan, PlanSpec)]
        object.__setattr__(self, "plans", _once("plan", (*self.plans, *plans)))
        object.__setattr__(self, "references", _once("reference", self.references))
        _once("tool", (tool for each in self.agents for tool in each.tools))
        taken = {each.id: each for each in self.toolkits}
        for toolkit in (toolkit for each in self.agents for toolkit in each.toolkits):
            taken.setdefault(toolkit.id, ToolkitSpec(id=toolkit.id))
        object.__setattr__(self, "toolkits", tuple(taken.values()))

    def _check_plan(self, agent: AgentSpec) -> None:
        if agent.plan is None and agent.role in ("planner", "executor"):
            raise ValueError(f"agent {agent.name!r}: {agent.role}s need a plan; give its kind")
        if isinstance(agent.plan, str) and agent.plan not in {each.name for each in self.plans}:
            raise ValueError(f"agent {agent.name!r}: there is no plan {agent.plan!r}")

    @property
    def coordinator(self) -> AgentSpec | None:
        """The agent that `Runtime.query` runs."""
        return next((agent for agent in self.agents if agent.role == "coordinator"), None)

    def agent(self, name: str) -> AgentSpec | None:
        """Return the agent of that name; None if there is none."""
        return next((agent for agent in self.agents if agent.name == name), None)

    def builtin_tools(self, agent: AgentSpec) -> tuple[str, ...]:
        """Return the names of the built-in tools of `agent`, narrowed as this runtime says."""
        return agent.builtin_tools({each.id: each.config.tools for each in self.toolkits})


def _is_left(tool: str, narrowed: Mapping[str, Iterable[str] | None]) -> bool:
    return all(
        only is None or tool in only
        for toolkit, only in narrowed.items()
        if tool in TOOLKITS[toolkit]
    )


def _refuse_twice(owner: str, what: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{owner} has the {what} {name!r} twice")


T = TypeVar("T", ToolSpec, PlanSpec, ReferenceSpec)


def _once(what: str, given: Iterable[T]) -> tuple[T, ...]:
    """Return each of `given` once. Raise `ValueError` for two different ones of one name."""
    found: dict[str, T] = {}
    for each in given:
        first = found.setdefault(each.name, each)
        if first != each or _callables(first) != _callables(each):
            raise ValueError(f"two different {what}s have the name {each.name!r}")
    return tuple(found.values())


def _callables(spec: Spec) -> list[Any]:
    fields = type(spec).model_fields.items()
    return [getattr(spec, name) for name, field in fields if field.exclude]
