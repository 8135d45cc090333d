"""Functions that make the parts of a `RuntimeSpec`. Pure: they start and open nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from paddock.runtime.orchestration.fields import ModelSpec, PlanDisplayAlias, TenantIdentity
from paddock.runtime.orchestration.prompts import LayeredPrompt
from paddock.runtime.orchestration.schemas import normalize_schema
from paddock.runtime.orchestration.spec import (
    AgentSpec,
    PlanSpec,
    ReferenceSpec,
    RuntimeSpec,
    ToolSpec,
)

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.runtime.orchestration.fields import SandboxScope
    from paddock.runtime.orchestration.roles import Role
    from paddock.runtime.orchestration.spec import Glimpse, ToolApprovalPredicate
    from paddock.runtime.tools.mcp.config import McpServer

__all__ = [
    "define_coordinator",
    "define_executor",
    "define_plan",
    "define_planner",
    "define_reference",
    "define_runtime",
    "define_specialist",
    "define_tenant",
    "define_tool",
]

JsonMapping = Mapping[str, Any]


def define_tenant(
    resource_id: str | JsonMapping | TenantIdentity, version: str | None = None
) -> TenantIdentity:
    """Return a tenant by its id and version, or by a mapping of both."""
    if not isinstance(resource_id, str):
        if version is not None:
            raise TypeError("define_tenant: the mapping has the version; give one of the two")
        return TenantIdentity.model_validate(resource_id)
    return TenantIdentity.model_validate({"resource_id": resource_id, "version": version})


def define_tool(
    name: str,
    input_schema: Any,
    description: str = "",
    approval: str | JsonMapping | ToolApprovalPredicate | None = None,
    output_schema: Any = None,
    binding_id: str | None = None,
) -> ToolSpec:
    """Return a tool. Bind its handler by using it as a decorator, or with `ToolSpec.bind`.

    ::

        @define_tool("search_products", {"query": str}, "Search products by name.")
        async def search_products(args, ctx):
            return await ctx.products.search(args["query"])

    - `input_schema` and `output_schema`: see `normalize_schema`.
    - `approval`: "never", which is what a tool says without it; "always"; a predicate, see
      `ToolApprovalPredicate`; or ``{"kind": "dynamic", "value": id}`` for a predicate that
      `create_runtime(approval_predicates=)` gets.
    - `binding_id`: the id of the predicate instead of ``{name}_approval``.

    Raise `TypeError` for a schema that cannot be read, and `ValueError` for another policy.
    """
    fields: dict[str, Any] = {
        "name": name,
        "input_schema": normalize_schema(input_schema),
        "description": description,
        "binding_id": binding_id,
    }
    if output_schema is not None:
        fields["output_schema"] = normalize_schema(output_schema)
    if callable(approval):
        fields["approval"] = {"kind": "dynamic", "value": binding_id or f"{name}_approval"}
        fields["approval_predicate"] = approval
    elif approval is not None:
        fields["approval"] = approval
    return ToolSpec.model_validate(fields)


def define_reference(
    name: str, schema: Any, ttl_ms: int | None = None, glimpse: Glimpse | None = None
) -> ReferenceSpec:
    """Return a kind of reference. `glimpse` is called once for each value that is stored."""
    return ReferenceSpec.model_validate(
        {
            "name": name,
            "schema": normalize_schema(schema),
            "ttl_ms": ttl_ms,
            "glimpse": glimpse,
        }
    )


def define_plan(
    name: str,
    schema: Any,
    display_aliases: Mapping[str, str] | Iterable[PlanDisplayAlias | JsonMapping] | None = None,
) -> PlanSpec:
    """Return a kind of plan. The top of `schema` has an array `actions`.

    `display_aliases` are what people read for a status, by status or as a list.
    """
    return PlanSpec.model_validate(
        {
            "name": name,
            "schema": normalize_schema(schema),
            "display_aliases": display_aliases or (),
        }
    )


def define_coordinator(
    name: str,
    *,
    model: str | ModelSpec | JsonMapping,
    prompt: str | LayeredPrompt,
    routes: Iterable[str],
    tools: Iterable[ToolSpec] = (),
    toolkits: Iterable[str | JsonMapping] | None = None,
    approval: str | JsonMapping | None = None,
    tool_approvals: JsonMapping | None = None,
    stateful: bool | None = None,
    max_turns: int | None = None,
    limits: JsonMapping | None = None,
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
) -> AgentSpec:
    """Return the agent that `Runtime.query` runs. It calls the agents that `routes` name.

    The parameters are those of `AgentSpec`. A layered prompt also describes `tools`.
    """
    return _agent("coordinator", **locals())


def define_planner(
    name: str,
    *,
    model: str | ModelSpec | JsonMapping,
    prompt: str | LayeredPrompt,
    plan: PlanSpec | str,
    tools: Iterable[ToolSpec] = (),
    toolkits: Iterable[str | JsonMapping] | None = None,
    approval: str | JsonMapping | None = None,
    tool_approvals: JsonMapping | None = None,
    stateful: bool | None = None,
    max_turns: int | None = None,
    limits: JsonMapping | None = None,
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
) -> AgentSpec:
    """Return an agent that stores plans of the kind `plan`. See `define_coordinator`."""
    return _agent("planner", **locals())


def define_executor(
    name: str,
    *,
    model: str | ModelSpec | JsonMapping,
    prompt: str | LayeredPrompt,
    plan: PlanSpec | str,
    tools: Iterable[ToolSpec] = (),
    toolkits: Iterable[str | JsonMapping] | None = None,
    approval: str | JsonMapping | None = None,
    tool_approvals: JsonMapping | None = None,
    stateful: bool | None = None,
    max_turns: int | None = None,
    limits: JsonMapping | None = None,
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
) -> AgentSpec:
    """Return an agent that carries out plans of the kind `plan`. See `define_coordinator`."""
    return _agent("executor", **locals())


def define_specialist(
    name: str,
    *,
    model: str | ModelSpec | JsonMapping,
    prompt: str | LayeredPrompt,
    tools: Iterable[ToolSpec] = (),
    toolkits: Iterable[str | JsonMapping] | None = None,
    approval: str | JsonMapping | None = None,
    tool_approvals: JsonMapping | None = None,
    stateful: bool | None = None,
    max_turns: int | None = None,
    limits: JsonMapping | None = None,
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
) -> AgentSpec:
    """Return an agent for one field, which `Runtime.run_specialist` runs. See
    `define_coordinator`."""
    return _agent("specialist", **locals())


def _agent(role: Role, *, prompt: str | LayeredPrompt, **given: Any) -> AgentSpec:
    fields = {name: value for name, value in given.items() if value is not None}
    tools = fields.pop("tools", ())
    if isinstance(tools, ToolSpec) or not isinstance(tools, Iterable):
        raise TypeError(f"tools: give a list of ToolSpecs, not {type(tools).__name__}")
    fields["tools"] = tuple(tools)
    if isinstance(prompt, LayeredPrompt):
        prompt = prompt.with_tools(fields["tools"]).text
    return AgentSpec.model_validate({"role": role, "system_prompt": prompt, **fields})


def define_runtime(
    tenant: TenantIdentity | JsonMapping,
    *,
    agents: Iterable[AgentSpec | JsonMapping],
    references: Iterable[ReferenceSpec | JsonMapping] = (),
    plans: Iterable[PlanSpec | JsonMapping] = (),
    toolkits: Iterable[str | JsonMapping] = (),
    approval_policies: JsonMapping | None = None,
    providers: JsonMapping | None = None,
    mcp_servers: Iterable[McpServer | JsonMapping] = (),
    backend: str | Backend | None = None,
    sandbox: SandboxScope | None = None,
    limits: JsonMapping | None = None,
) -> RuntimeSpec:
    """Return what `create_runtime` takes: a tenant, its agents and all that they use.

    - `toolkits` are ids, or ``{"id": ..., "config": {"tools": [...]}}`` to narrow one for all.
    - `approval_policies`: rules for "plans" and "tools" beneath those of agents and tools. By
      default those of the coordinator, then "always" for plans and "never" for tools.
    - `mcp_servers`: MCP servers whose tools all agents have, as ``SERVER__TOOL``: each an
      `McpServer`, or a mapping of its fields.
    - `providers`: by name, the ``apiKeyEnv``, ``baseUrl`` and perhaps ``prices`` of each.
    - `backend`, `sandbox` and `limits` of agents go before these.

    Raise `pydantic.ValidationError`, a `ValueError`, that names the agent and the route.
    """
    fields = {name: value for name, value in locals().items() if value is not None}
    return RuntimeSpec.model_validate(fields)
