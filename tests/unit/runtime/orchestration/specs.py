"""Specs for tests: a team of a coordinator, a planner and an executor, and its parts."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from paddock import (
    AgentSpec,
    PlanSpec,
    RuntimeSpec,
    define_coordinator,
    define_executor,
    define_plan,
    define_planner,
    define_reference,
    define_runtime,
    define_tenant,
    define_tool,
)

TENANT = define_tenant("acme", "v1")


class Order(BaseModel):
    why: str
    actions: list[dict[str, Any]]


PLAN = define_plan("Order", Order)


def specialist(name: str = "worker", **fields: Any) -> AgentSpec:
    return AgentSpec.model_validate({"name": name, "role": "specialist", "model": "m", **fields})


def coordinator(*routes: str, **fields: Any) -> AgentSpec:
    return define_coordinator("lead", model="m", prompt="Lead.", routes=routes, **fields)


def team(**fields: Any) -> RuntimeSpec:
    search = define_tool("search", {"query": str}, "Search.", output_schema=list[str])
    return define_runtime(
        TENANT,
        **{
            "agents": [
                coordinator("planner", "executor", approval={"plans": "always"}),
                define_planner("planner", model="m", prompt="Plan.", plan=PLAN, tools=[search]),
                define_executor("executor", model="m", prompt="Do.", plan=PLAN, tools=[search]),
            ],
            "references": [define_reference("Skus", list[str], ttl_ms=1000, glimpse=len)],
            "providers": {"openai-compatible": {"apiKeyEnv": "KEY", "baseUrl": "http://x"}},
            "toolkits": [{"id": "plans", "config": {"tools": ["getPlan"]}}],
            "limits": {"usd": 1.5, "turns": 9},
            **fields,
        },
    )


def plan(name: str = "Order", **properties: Any) -> PlanSpec:
    schema = {"type": "object", "properties": {"actions": {"type": "array"}, **properties}}
    return define_plan(name, schema)
