"""Stores, plans and references to test with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from paddock.runtime.core.approval import Decision
from paddock.runtime.orchestration.define import define_plan, define_reference
from paddock.runtime.orchestration.plans import Plans
from paddock.runtime.orchestration.references import References
from paddock.runtime.orchestration.store import TenantStore
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from paddock.runtime.orchestration.stores.sqlite import SqliteRuntimeStore

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.orchestration.dispatching import ActionDispatcher
    from paddock.runtime.orchestration.records import StoredPlan
    from paddock.runtime.orchestration.stores.base import RuntimeStore

STOCK_PLAN = define_plan("StockPlan", {"why": str, "actions": list[dict[str, Any]]})
SKU_SET = define_reference("SkuSet", {"skus": list[str]}, glimpse=lambda v: {"n": len(v["skus"])})
BODY: dict[str, Any] = {
    "why": "stock is low",
    "actions": [{"kind": "reorder", "sku": "s-1", "count": 5}],
}


class Reopen(Protocol):
    def __call__(self) -> RuntimeStore:
        """The store as another process sees it, where it lasts."""
        ...


STORES = ["memory", "sqlite"]


def reopener(kind: str, path: Path) -> Reopen:
    if kind == "sqlite":
        return lambda: SqliteRuntimeStore(path / "team.db")
    only = MemoryRuntimeStore()
    return lambda: only


each_store = pytest.mark.parametrize("kind", STORES)


def references(store: RuntimeStore, *specs: Any, tenant: str = "acme") -> References:
    return References(TenantStore(store, tenant), specs or (SKU_SET,))


def plans(
    store: RuntimeStore, dispatcher: ActionDispatcher | None = None, *, tenant: str = "acme"
) -> Plans:
    kept = TenantStore(store, tenant)
    made = References(kept, [SKU_SET])
    return Plans(kept, made, {STOCK_PLAN.name: STOCK_PLAN}, dispatcher)


@dataclass
class Gate:
    """Gives `answer` to who asks; with None no approval is needed. Notes what happened."""

    answer: Decision | None = None
    asked: list[StoredPlan] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    async def requires_approval(self, plan: StoredPlan) -> bool:
        return self.answer is not None

    async def ask(self, plan: StoredPlan) -> Decision:
        self.asked.append(plan)
        self.steps.append("asked")
        assert self.answer is not None
        return self.answer

    async def changed(self, plan_id: str, before: str, after: str) -> None:
        self.steps.append(f"{before} -> {after}")


APPROVE = Decision(outcome="approve", feedback="go", by="ann")


@dataclass
class Dispatcher:
    """Returns `gives`, or raises it. Notes what it was called with."""

    gives: Any = None
    calls: list[tuple[list[dict[str, Any]], dict[str, Any]]] = field(default_factory=list)

    def __call__(self, actions: list[dict[str, Any]], ctx: dict[str, Any]) -> Any:
        self.calls.append((actions, ctx))
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives


async def execute(plans: Plans, gate: Gate, plan_id: str = "plan-1") -> dict[str, Any]:
    return await plans.execute(plan_id, gate=gate, changed=gate.changed)
