"""Which built-in tools an agent has: those of its role, and those of the toolkits it takes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "CALL_AGENT",
    "EXECUTE_PLAN",
    "EXECUTE_QUERY",
    "GET_CATALOG_ENTITIES",
    "GET_CATALOG_RELATIONS",
    "GET_PLAN",
    "GET_RELATION_PATHS_BETWEEN",
    "GLIMPSE_REF",
    "LIST_SCHEMA_FIELDS",
    "RESERVED",
    "RESOLVE_REF",
    "SAMPLE_TABLE_DATA",
    "SEARCH_CATALOG",
    "STATEFUL",
    "STORE_PLAN",
    "TOOLKITS",
    "Role",
    "builtin_tools",
    "check_toolkit",
]

Role = Literal["coordinator", "planner", "executor", "specialist"]

CALL_AGENT = "call_agent"
STORE_PLAN = "storePlan"
GET_PLAN = "getPlan"
EXECUTE_PLAN = "executePlan"
RESOLVE_REF = "resolveRef"
GLIMPSE_REF = "glimpseRef"
SEARCH_CATALOG = "search_catalog"
GET_CATALOG_ENTITIES = "get_catalog_entities"
LIST_SCHEMA_FIELDS = "list_schema_fields"
GET_CATALOG_RELATIONS = "get_catalog_relations"
GET_RELATION_PATHS_BETWEEN = "get_relation_paths_between"
SAMPLE_TABLE_DATA = "sample_table_data"
EXECUTE_QUERY = "execute_query"

TOOLKITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "agents": (CALL_AGENT,),
        "plans": (STORE_PLAN, GET_PLAN, EXECUTE_PLAN),
        "references": (RESOLVE_REF, GLIMPSE_REF),
        "catalog": (
            SEARCH_CATALOG,
            GET_CATALOG_ENTITIES,
            LIST_SCHEMA_FIELDS,
            GET_CATALOG_RELATIONS,
            GET_RELATION_PATHS_BETWEEN,
            SAMPLE_TABLE_DATA,
            EXECUTE_QUERY,
        ),
    }
)
"""The tools of each toolkit, in the order in which a model sees them."""

RESERVED = frozenset(name for names in TOOLKITS.values() for name in names)
"""Names that a Python tool cannot have."""

STATEFUL: Collection[Role] = frozenset({"coordinator", "planner"})
"""Roles that remember earlier prompts of their thread unless an agent says otherwise."""

_OF_ROLE: Mapping[Role, frozenset[str]] = {
    "coordinator": frozenset({CALL_AGENT}),
    "planner": frozenset({STORE_PLAN, GET_PLAN}),
    "executor": frozenset({GET_PLAN, EXECUTE_PLAN, RESOLVE_REF, GLIMPSE_REF}),
    "specialist": frozenset(),
}
_FOR_ANY_ROLE = frozenset({CALL_AGENT, GET_PLAN, RESOLVE_REF, GLIMPSE_REF, *TOOLKITS["catalog"]})
"""What an agent gets of a toolkit that it takes, beyond the tools of its role."""


def check_toolkit(toolkit: str, tools: Collection[str] | None) -> None:
    """Raise `ValueError` for an unknown toolkit, or one without these `tools`."""
    if toolkit not in TOOLKITS:
        raise ValueError(f"unknown toolkit {toolkit!r}: there are {', '.join(TOOLKITS)}")
    known = TOOLKITS[toolkit]
    for tool in tools or ():
        if tool not in known:
            raise ValueError(
                f"the toolkit {toolkit!r} has no tool {tool!r}: it has {', '.join(known)}"
            )


def builtin_tools(
    role: Role, *, routes: bool, toolkits: Mapping[str, Collection[str] | None]
) -> tuple[str, ...]:
    """Return the names of an agent's built-in tools.

    `toolkits` are those that it takes, each with the tools it is narrowed to, or None for all.
    Narrowing also applies to the tools of the role. An agent with `routes` can call agents.
    """
    of_role = _OF_ROLE[role] | ({CALL_AGENT} if routes else set())
    given = []
    for toolkit, tools in TOOLKITS.items():
        taken = of_role | (_FOR_ANY_ROLE if toolkit in toolkits else frozenset())
        only = toolkits.get(toolkit)
        given += [each for each in tools if each in taken and (only is None or each in only)]
    return tuple(given)
