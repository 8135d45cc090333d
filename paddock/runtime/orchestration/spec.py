"""What a multi-agent runtime is made of, as frozen data.

All models take snake_case and camelCase and dump camelCase. What can be called, such as a
handler, a predicate or a glimpse, is on the model and never in a dump, and does not count when two
models are compared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

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

Role = Literal["coordinator", "planner", "executor", "specialist"]

PlanStatus = Literal["draft", "approved", "executing", "executed", "failed"]

SandboxScope = Literal["thread", "agent", "call"]
"""What shares one sandbox: all agents of a thread, the calls of one agent there, or nothing."""

Glimpse = Callable[[Any], Any]
"""Given a reference's value, return what a prompt shows of it. JSON."""

ToolSpecHandler = Callable[[dict[str, Any], Any], Any]
"""Given a call's arguments and the tool context, return the result. May be async."""

ToolApprovalPredicate = Callable[[dict[str, Any], Mapping[str, Any]], Awaitable[bool] | bool]
"""Given a call's arguments and `kind`, `target`, `tenant` and `agent`; True asks for an approval."""

Name = Annotated[str, StringConstraints(min_length=1)]


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


class TenantIdentity(_Spec):
    """Whose data this is: two tenants see nothing of each other. `version` is the program's."""

    resource_id: Name
    version: Name


class ModelSpec(_Spec):
    """A model by its `id`; without `provider` the id says whose it is. Text is taken as an id."""

    id: Name
    provider: Name | None = None


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

    usd: float | None = Field(None, ge=0)
    tokens: int | None = Field(None, ge=0)
    turns: int | None = Field(None, ge=0)
    seconds: float | None = Field(None, ge=0)


class ToolSpec(_Spec):
    """A tool that an agent may call, and its handler if it has one. See `define_tool`.

    A tool whose `approval` was not given says "never".
    """

    name: Name
    input_schema: dict[str, Any]
    description: str = ""
    approval: ApprovalRule = "never"
    output_schema: dict[str, Any] | None = None
    binding_id: Name | None = None
    handler: ToolSpecHandler | None = Field(None, exclude=True, repr=False)
    approval_predicate: ToolApprovalPredicate | None = Field(None, exclude=True, repr=False)

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


class PlanSpec(_Spec):
    """A kind of plan: the JSON Schema of its body, with an array `actions`."""

    name: Name
    json_schema: dict[str, Any] = Field(alias="schema")
    display_aliases: tuple[PlanDisplayAlias, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:  # type: ignore[override]
        """The JSON Schema of a plan's body."""
        return self.json_schema


class ReferenceSpec(_Spec):
    """A kind of reference: the JSON Schema of its values, how long one is kept, its glimpse."""

    name: Name
    json_schema: dict[str, Any] = Field(alias="schema")
    ttl_ms: int | None = Field(None, gt=0)
    glimpse: Glimpse | None = Field(None, exclude=True, repr=False)

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


def _as_model(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


Toolkit = Annotated[ToolkitSpec, BeforeValidator(_as_model)]


class AgentSpec(_Spec):
    """An agent. The functions `define_coordinator` and so on make one by its role."""

    name: Name
    role: Role
    model: Annotated[ModelSpec, BeforeValidator(_as_model)]
    system_prompt: str = ""
    routes: tuple[Name, ...] = ()
    plan: PlanSpec | Name | None = None
    tools: tuple[ToolSpec, ...] = ()
    toolkits: tuple[Toolkit, ...] = ()
    approval: ApprovalRules = ApprovalRules()
    tool_approvals: dict[str, ApprovalRule] = {}
    stateful: bool | None = None
    max_turns: int | None = Field(None, gt=0)
    limits: AgentLimits = AgentLimits()
    backend: Any = None
    sandbox: SandboxScope | None = None
    interpreter: Name | None = None


class RuntimeSpec(_Spec):
    """A tenant, its agents and all that they use. See `define_runtime`."""

    tenant: TenantIdentity
    agents: tuple[AgentSpec, ...]
    references: tuple[ReferenceSpec, ...] = ()
    plans: tuple[PlanSpec, ...] = ()
    toolkits: tuple[Toolkit, ...] = ()
    approval_policies: ApprovalRules | None = None
    providers: dict[str, ProviderSpec] = {}
    backend: Any = None
    sandbox: SandboxScope | None = None
    limits: AgentLimits = AgentLimits()

    @property
    def coordinator(self) -> AgentSpec | None:
        """The agent that `Runtime.query` runs."""
        return next((agent for agent in self.agents if agent.role == "coordinator"), None)

    def agent(self, name: str) -> AgentSpec | None:
        """Return the agent of that name; None if there is none."""
        return next((agent for agent in self.agents if agent.name == name), None)
