"""The agents: a coordinator, an analyst, a planner and an executor, each with its own model."""

import json
from typing import Any, Literal

from pydantic import BaseModel

from examples.pricing_team.catalogue import Catalogue
from paddock import (
    Backend,
    RuntimeSpec,
    define_coordinator,
    define_executor,
    define_plan,
    define_planner,
    define_reference,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
    glimpse,
    layered_prompt,
)

RULES = ["Prices are in euros.", "No product is sold below its cost."]
CHECK = """
import csv, json, sys
rows = list(csv.reader(sys.stdin))
below = [sku for sku, cost, price in rows if float(price) < float(cost)]
print(json.dumps({"checked": len(rows), "below_cost": below}))
"""


class Reference(BaseModel):
    kind: Literal["ProductSet"]
    id: str


class PriceChange(BaseModel):
    kind: Literal["price_change"]
    percent: float
    references: list[Reference]


class PricingPlan(BaseModel):
    why: str
    actions: list[PriceChange]


PRODUCTS = define_reference("ProductSet", list[str], glimpse=glimpse)
PLAN = define_plan("PricingPlan", PricingPlan)


@define_tool(
    "find_products", {"segment": Literal["enterprise", "home"]}, "Find the products of a segment."
)
async def find_products(args: dict[str, Any], ctx: Any) -> dict[str, Any]:
    found = ctx.catalogue.in_segment(args["segment"])
    products = await ctx.references.create(PRODUCTS, [each["id"] for each in found])
    return {"products": products, "average": sum(each["price"] for each in found) / len(found)}


@define_tool(
    "check_prices",
    {"products": Reference, "percent": float},
    "Say which products would be sold below their cost after a change by per cent.",
)
async def check_prices(args: dict[str, Any], ctx: Any) -> Any:
    ids = await ctx.references.resolve(args["products"])
    factor = 1 + args["percent"] / 100
    rows = [
        f"{each['id']},{each['cost']},{each['price'] * factor}\n"
        for each in ctx.catalogue.products(ids)
    ]
    sandbox = await ctx.sandbox()
    await sandbox.fs.write_text("check.py", CHECK)
    done = await sandbox.exec(["python3", "check.py"], stdin="".join(rows), timeout=60, check=True)
    return json.loads(done.stdout)


def dispatcher(catalogue: Catalogue) -> Any:
    """Return what carries out the actions of an approved plan."""

    def carry_out(actions: list[dict[str, Any]], ctx: dict[str, Any]) -> dict[str, Any]:
        products = ctx["resolved_refs"]["ProductSet"]
        changes = [
            (action["payload"]["percent"], products[reference["id"]])
            for action in actions
            for reference in action["references"]
        ]
        changed = catalogue.change_prices(changes, key=ctx["idempotency_key"])
        return {"entitiesAffected": changed, "summary": f"changed {changed} prices"}

    return carry_out


def make_team(base_url: str | None = None, *, backend: Backend | None = None) -> RuntimeSpec:
    """Return the team. Its models are served at `base_url`, or at OpenAI's.

    `backend` makes the sandboxes in which the executor's tools work.
    """
    coordinator = define_coordinator(
        "lead",
        model="gpt-5-mini",
        prompt=layered_prompt(
            identity="You lead a pricing team.",
            operational_rules=["Ask the analyst first.", "Have plans executed by the executor."],
            safety=RULES,
        ),
        routes=["analyst", "planner", "executor"],
        approval={"plans": "always"},
    )
    analyst = define_specialist(
        "analyst",
        model="gpt-5-nano",
        prompt=layered_prompt(identity="You find products.", domain_knowledge=RULES),
        tools=[find_products],
    )
    planner = define_planner(
        "planner",
        model="gpt-5",
        prompt=layered_prompt(identity="You write pricing plans.", safety=RULES),
        plan=PLAN,
    )
    executor = define_executor(
        "executor",
        model="gpt-5-mini",
        prompt=layered_prompt(identity="You check and execute plans.", safety=RULES),
        plan=PLAN,
        tools=[check_prices],
        limits={"turns": 20, "seconds": 300},
        backend=backend,
    )
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[coordinator, analyst, planner, executor],
        references=[PRODUCTS],
        providers={"openai-compatible": {"apiKeyEnv": "PRICING_KEY", "baseUrl": base_url}},
    )
