"""What the specs are made of: their base, the values in them, and how each is read.

All models take snake_case and camelCase and dump camelCase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

from paddock.backends.base import Backend
from paddock.runtime.core.tool import TOOL_NAME
from paddock.runtime.orchestration.roles import check_toolkit
from paddock.runtime.orchestration.schemas import normalize_schema
from paddock.runtime.tools.mcp.config import McpServer, parse_mcp_servers

__all__ = [
    "RECIPE",
    "AgentLimits",
    "Amount",
    "ApprovalRule",
    "ApprovalRules",
    "BackendSpec",
    "DynamicApproval",
    "Flag",
    "JsonSchema",
    "McpServerSpec",
    "ModelSpec",
    "Name",
    "PlanDisplayAlias",
    "PlanStatus",
    "ProviderSpec",
    "Rules",
    "SandboxScope",
    "Spec",
    "TenantIdentity",
    "Toolkit",
    "ToolkitSpec",
    "Whole",
    "as_aliases",
    "as_id",
    "check_agent_name",
    "check_tool_name",
]

PlanStatus = Literal["draft", "approved", "executing", "executed", "failed"]

SandboxScope = Literal["thread", "agent", "call"]
"""What shares one sandbox: all agents of a thread, the calls of one agent there, or nothing."""

Name = Annotated[str, StringConstraints(pattern=r"\S")]


def _as_number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError(f"give a number, not {value!r}")
    return value


Flag = Annotated[bool, Strict()]
"""True or False, and not "no", which pydantic takes for one of them."""
Whole = Annotated[int, BeforeValidator(_as_number)]
Amount = Annotated[float, BeforeValidator(_as_number)]

RECIPE = "recipe:"
"""Begins what a dump has for a backend that is a recipe, and not a name."""


def _as_schema(value: object) -> dict[str, Any]:
    try:
        return normalize_schema(value)
    except TypeError as error:
        raise ValueError(str(error)) from error


def as_id(value: object) -> object:
    return {"id": value} if isinstance(value, str) else value


def _as_rules(value: object) -> object:
    """Take one word for both rules, and "default" for one that says nothing."""
    if isinstance(value, str):
        value = {"plans": value, "tools": value}
    if not isinstance(value, Mapping):
        return value
    return {key: None if rule == "default" else rule for key, rule in value.items()}


def as_aliases(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return tuple({"status": status, "alias": alias} for status, alias in value.items())


def check_tool_name(name: str) -> str:
    if not TOOL_NAME.fullmatch(name):
        raise ValueError(f"the name {name!r}: at most 64 letters, digits, '_' and '-'")
    return name


def check_agent_name(name: str) -> str:
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


def _as_server(server: object) -> McpServer:
    if isinstance(server, Mapping):
        server = {_snake(str(name)): value for name, value in server.items()}
    return parse_mcp_servers([server])[0]


def _dump_server(server: McpServer) -> dict[str, Any]:
    return {to_camel(name): value for name, value in server.to_dict(partial=True).items()}


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


McpServerSpec = Annotated[
    Any, BeforeValidator(_as_server), PlainSerializer(_dump_server, return_type=dict[str, Any])
]
"""An `McpServer`. A dump lacks headers whose values are not taken from the environment."""

JsonSchema = Annotated[dict[str, Any], BeforeValidator(_as_schema)]
BackendSpec = Annotated[
    Any, AfterValidator(_check_backend), PlainSerializer(_dump_backend, return_type=str | None)
]
"""The name of a backend, or its recipe, of which a dump has the name only."""


class Spec(BaseModel):
    """Frozen, and equal to another one if their dumps are: what can be called does not count."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec) or type(self) is not type(other):
            return NotImplemented
        return self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def _by_name(model: type[Spec], values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the fields of `model` that are given by position."""
    names = tuple(model.model_fields)
    if len(values) > len(names):
        raise TypeError(f"{model.__name__} takes {', '.join(names)}, not {values!r}")
    return dict(zip(names, values, strict=False))


class TenantIdentity(Spec):
    """Whose data this is: two tenants see nothing of each other. `version` is the program's."""

    resource_id: Name
    version: Name

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**_by_name(type(self), values), **fields)


class ModelSpec(Spec):
    """A model by its `id`; without `provider` the id says whose it is. Text is taken as an id."""

    id: Name
    provider: Name | None = None

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**_by_name(type(self), values), **fields)


class ProviderSpec(Spec):
    """Where a provider's models are served, and the variable that has the key.

    `prices` are what its models cost, by name; see `AgentConfig.prices`.
    """

    api_key_env: Name | None = None
    base_url: Name | None = None
    prices: dict[Name, dict[str, Amount]] | None = None


class DynamicApproval(Spec):
    """Ask the predicate `value`, which a tool or `create_runtime(approval_predicates=)` has."""

    kind: Literal["dynamic"] = "dynamic"
    value: Name


ApprovalRule = Literal["never", "always"] | DynamicApproval


class ApprovalRules(Spec):
    """Rules for the execution of plans and for calls of tools; None says nothing."""

    plans: Literal["never", "always"] | None = None
    tools: ApprovalRule | None = None


class AgentLimits(Spec):
    """What a run may use up; None is no limit. `usd` needs models whose prices are known."""

    usd: Amount | None = Field(default=None, ge=0)
    tokens: Whole | None = Field(default=None, ge=0)
    turns: Whole | None = Field(default=None, ge=0)
    seconds: Amount | None = Field(default=None, ge=0)


class PlanDisplayAlias(Spec):
    """What people read for a status of a plan."""

    status: PlanStatus
    alias: Name

    def __init__(self, *values: Any, **fields: Any) -> None:
        super().__init__(**_by_name(type(self), values), **fields)


class ToolkitConfig(Spec):
    """Which tools of a toolkit are taken; None is all."""

    tools: tuple[Name, ...] | None = None


class ToolkitSpec(Spec):
    """A built-in toolkit by its `id`. Text is taken as an id."""

    id: Name
    config: ToolkitConfig = ToolkitConfig()

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        check_toolkit(self.id, self.config.tools)
        return self


Toolkit = Annotated[ToolkitSpec, BeforeValidator(as_id)]
Rules = Annotated[ApprovalRules, BeforeValidator(_as_rules)]
