"""What a multi-agent runtime is made of, as frozen data.

All models take snake_case and camelCase and dump camelCase. What can be called, such as a
handler, a predicate or a glimpse, is on the model and never in a dump, and does not count when two
models are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from paddock.backends.base import Backend
from paddock.runtime.core.tool import TOOL_NAME
from paddock.runtime.orchestration.roles import (
    RESERVED,
    STATEFUL,
    TOOLKITS,
    Role,
    builtin_tools,
    check_toolkit,
)
from paddock.runtime.orchestration.schemas import normalize_schema, resolved

__all__ = [
    "AgentLimits",
    "AgentSpec",
    "ApprovalRule",
    "ApprovalRules",
    "DynamicApproval",
    "Glimpse",
    "ModelSpec",
    "PlanDisplayAlias",
    "PlanSpec",
    "PlanStatus",
    "ProviderSpec",
    "ReferenceSpec",
    "Role",
    "RuntimeSpec",
    "SandboxScope",
    "TenantIdentity",
    "ToolApprovalPredicate",
    "ToolSpec",
    "ToolSpecHandler",
    "ToolkitConfig",
    "ToolkitSpec",
]

PlanStatus = Literal["draft", "approved", "executing", "executed", "failed"]

SandboxScope = Literal["thread", "agent", "call"]
"""What shares one sandbox: all agents of a thread, the calls of one agent there, or nothing."""

Glimpse = Callable[[Any], Any]
"""Given a reference's value, return what a prompt shows of it. JSON."""

ToolSpecHandler = Callable[[dict[str, Any], Any], Any]
"""Given a call's arguments and the tool context, return the result. May be async."""

ToolApprovalPredicate = Callable[[dict[str, Any], Mapping[str, Any]], Awaitable[bool] | bool]
"""Given a call's arguments and a mapping of `kind`, `target`, `tenant` and `agent`. True asks for
an approval."""

Name = Annotated[str, StringConstraints(pattern=r"\S")]

RECIPE = "recipe:"
"""Begins what a dump has for a backend that is a recipe, and not a name."""


def _as_schema(value: object) -> dict[str, Any]:
    try:
        return normalize_schema(value)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _as_id(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


def _as_rules(value: object) -> object:
    """Take one word for both rules, and "default" for one that says nothing."""
    if isinstance(value, str):
        value = {"plans": value, "tools": value}
    if not isinstance(value, Mapping):
        return value
    return {key: None if rule == "default" else rule for key, rule in value.items()}


def _as_aliases(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return tuple({"status": status, "alias": alias} for status, alias in value.items())


def _check_tool_name(name: str) -> str:
    if not TOOL_NAME.fullmatch(name):
        raise ValueError(f"the name {name!r}: at most 64 letters, digits, '_' and '-'")
    return name


def _check_agent_name(name: str) -> str:
    if not name.strip() or "/" in name or not name.isprintable():
        raise ValueError(f"the name {name!r}: printable text without '/'")
    return name


def _check_backend(backend: object) -> object:
    if backend is not None and not isinstance(backend, str | Backend):
        raise ValueError(
            f"a backend is a name or a recipe such as DockerBackend(), not {backend!r}"
        )
    return backend


def _dump_backend(backend: str | Backend | None) -> str | None:
    return f"{RECIPE}{backend.name}" if isinstance(backend, Backend) else backend


JsonSchema = Annotated[dict[str, Any], BeforeValidator(_as_schema)]
BackendSpec = Annotated[
    Any, AfterValidator(_check_backend), PlainSerializer(_dump_backend, return_type=str | None)
]
"""The name of a backend, or its recipe, of which a dump has the name only."""


class _Spec(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Spec) or type(self) is not type(other):
            return NotImplemented
        return self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def _by_name(model: type[_Spec], values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the fields of `model` that are given by position."""
    names = tuple(model.model_fields)
    if len(values) > len(names):
        raise TypeError(f"{model.__name__} takes {', '.join(names)}, not {values!r}")
    return dict(zip(names, values, strict=False))


class TenantIdentity(_Spec):
    """Whose data this is: two tenants see nothing of each other. `version` is the program's."""

    resource_id: Name
    version: Name

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**_by_name(type(self), values), **fields)


class ModelSpec(_Spec):
    """A model by its `id`; without `provider` the id says whose it is. Text is taken as an id."""

    id: Name
    provider: Name | None = None

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**_by_name(type(self), values), **fields)


class ProviderSpec(_Spec):
    """Where a provider's models are served, and the variable that has the key."""

    api_key_env: Name | None = None
    base_url: Name | None = None


class DynamicApproval(_Spec):
    """Ask the predicate `value`, which a tool or `create_runtime(approval_predicates=)` has."""

    kind: Literal["dynamic"] = "dynamic"
    value: Name


ApprovalRule = Literal["never", "always"] | DynamicApproval


class ApprovalRules(_Spec):
    """Rules for the execution of plans and for calls of tools; None says nothing."""

    plans: Literal["never", "always"] | None = None
    tools: ApprovalRule | None = None


class AgentLimits(_Spec):
    """What a run may use up; None is no limit. `usd` needs models whose prices are known."""

    usd: float | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    turns: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)


class ToolSpec(_Spec):
    """A tool that an agent may call, and its handler if it has one. See `define_tool`.

    A tool whose `approval` was not given says "never".
    """

    name: Annotated[str, AfterValidator(_check_tool_name)]
    input_schema: JsonSchema
    description: str = ""
    approval: ApprovalRule = "never"
    output_schema: JsonSchema | None = None
    binding_id: Name | None = None
    handler: ToolSpecHandler | None = Field(default=None, exclude=True, repr=False)
    approval_predicate: ToolApprovalPredicate | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _takes_an_object(self) -> Self:
        schema = self.input_schema
        if resolved(schema, schema).get("type", "object") != "object":
            raise ValueError(f"tool {self.name!r}: its arguments are an object, not {schema}")
        return self

    def bind(self, handler: ToolSpecHandler) -> ToolSpec:
        """Return a copy that runs `handler`."""
        return self.model_copy(update={"handler": handler})

    def __call__(self, handler: ToolSpecHandler) -> ToolSpec:
        """As a decorator: `bind`."""
        return self.bind(handler)


class PlanDisplayAlias(_Spec):
    """What people read for a status of a plan."""

    status: PlanStatus
    alias: Name

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**_by_name(type(self), values), **fields)


class PlanSpec(_Spec):
    """A kind of plan: the JSON Schema of its body, with an array `actions`."""

    name: Name
    json_schema: JsonSchema = Field(alias="schema")
    display_aliases: Annotated[tuple[PlanDisplayAlias, ...], BeforeValidator(_as_aliases)] = ()

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


class ReferenceSpec(_Spec):
    """A kind of reference: the JSON Schema of its values, how long one is kept, its glimpse."""

    name: Name
    json_schema: JsonSchema = Field(alias="schema")
    ttl_ms: int | None = Field(default=None, gt=0)
    glimpse: Glimpse | None = Field(default=None, exclude=True, repr=False)

    @property
    def schema(self) -> dict[str, Any]:  # type: ignore[override]
        """The JSON Schema of the values."""
        return self.json_schema


class ToolkitConfig(_Spec):
    """Which tools of a toolkit are taken; None is all."""

    tools: tuple[Name, ...] | None = None


class ToolkitSpec(_Spec):
    """A built-in toolkit by its `id`. Text is taken as an id."""

    id: Name
    config: ToolkitConfig = ToolkitConfig()

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        check_toolkit(self.id, self.config.tools)
        return self


Toolkit = Annotated[ToolkitSpec, BeforeValidator(_as_id)]
Rules = Annotated[ApprovalRules, BeforeValidator(_as_rules)]


class AgentSpec(_Spec):
    """An agent. `define_coordinator` and its like make one of a role.

    - `approval` has rules for all its calls, and `tool_approvals` for tools by name.
    - `stateful`: it remembers earlier prompts of its thread; coordinators and planners do.
    - `max_turns` are model calls of one run.
    - `backend`, `sandbox` and `limits`: where they say nothing, those of the runtime apply.
    """

    name: Annotated[Name, AfterValidator(_check_agent_name)]
    role: Role
    model: Annotated[ModelSpec, BeforeValidator(_as_id)]
    system_prompt: str = ""
    routes: tuple[Name, ...] = ()
    plan: PlanSpec | Name | None = None
    tools: tuple[ToolSpec, ...] = ()
    toolkits: tuple[Toolkit, ...] = ()
    approval: Rules = ApprovalRules()
    tool_approvals: dict[str, ApprovalRule] = {}
    stateful: bool | None = None
    max_turns: int | None = Field(default=None, gt=0)
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
            if name not in known:
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


class RuntimeSpec(_Spec):
    """A tenant, its agents and all that they use. See `define_runtime`.

    Plans and toolkits of the agents are among its own.
    """

    tenant: TenantIdentity
    agents: tuple[AgentSpec, ...]
    references: tuple[ReferenceSpec, ...] = ()
    plans: tuple[PlanSpec, ...] = ()
    toolkits: tuple[Toolkit, ...] = ()
    approval_policies: ApprovalRules | None = None
    providers: dict[Name, ProviderSpec] = {}
    mcp_servers: tuple[Any, ...] = ()
    backend: BackendSpec = None
    sandbox: SandboxScope | None = None
    limits: AgentLimits = AgentLimits()

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.mcp_servers:
            raise ValueError("mcp_servers are not built yet")
        _refuse_twice("this runtime", "agent", (each.name for each in self.agents))
        _refuse_twice("this runtime", "toolkit", (each.id for each in self.toolkits))
        coordinators = [each.name for each in self.agents if each.role == "coordinator"]
        if len(coordinators) > 1:
            raise ValueError(f"more than one coordinator: {', '.join(map(repr, coordinators))}")
        for agent in self.agents:
            self._check_routes(agent)
        self._attach()
        for agent in self.agents:
            self._check_plan(agent)
        return self

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


def _callables(spec: _Spec) -> list[Any]:
    fields = type(spec).model_fields.items()
    return [getattr(spec, name) for name, field in fields if field.exclude]
