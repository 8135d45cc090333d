"""What the team's models would say, so that the example needs no key.

`script` is a prompt for the scripted interpreter. `answer` answers requests as the agent's model.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from paddock import ModelRequest

PROMPT = "Make the products for enterprises 5 % dearer."


def call(tool: str, **args: Any) -> dict[str, Any]:
    return {"tool": tool, "args": args}


def plan_of(products: Mapping[str, Any]) -> dict[str, Any]:
    reference = {"kind": products["kind"], "id": products["id"]}
    change = {"kind": "price_change", "percent": 5.0, "references": [reference]}
    body = {"why": "Costs have risen.", "actions": [change]}
    return {"specName": "PricingPlan", "planId": "spring", "body": body}


def script(products: Mapping[str, Any]) -> str:
    """Return the calls of all agents; what the analyst finds is known to be `products`."""
    reference = {"kind": products["kind"], "id": products["id"]}
    steps = {
        "analyst": [call("find_products", segment="enterprise")],
        "planner": [call("storePlan", **plan_of(products))],
        "executor": [
            call("getPlan", planId="spring"),
            call("check_prices", products=reference, percent=5.0),
            call("executePlan", planId="spring"),
        ],
    }
    calls = [
        call("call_agent", agent=agent, prompt=json.dumps({"script": todo}))
        for agent, todo in steps.items()
    ]
    return json.dumps({"script": calls})


def answer(request: ModelRequest) -> dict[str, Any]:
    """Return the next turn of the agent whose request it is."""
    told = [message for message in request.messages if message["role"] != "system"]
    results = [json.loads(each["content"]) for each in told if each["role"] == "tool"]
    prompt = str(told[0]["content"])
    step = len([message for message in told if message["role"] == "assistant"])
    match str(request.messages[0]["content"]).split("\n")[2]:
        case "You lead a pricing team.":
            return lead(step, results)
        case "You find products.":
            found = json.dumps(results[0]["products"]) if results else ""
            turns = [said("find_products", segment="enterprise"), {"text": found}]
        case "You write pricing plans.":
            products = json.loads(prompt.partition(": ")[2])
            turns = [said("storePlan", **plan_of(products)), {"text": "It is 'spring'."}]
        case _:
            return execute(step, results)
    return turns[step]


def lead(step: int, results: Sequence[Any]) -> dict[str, Any]:
    if step == 0:
        return said("call_agent", agent="analyst", prompt="Find the products for enterprises.")
    if step == 1:
        prompt = f"Plan 5 % more for: {results[0]['response']}"
        return said("call_agent", agent="planner", prompt=prompt)
    if step == 2:
        return said("call_agent", agent="executor", prompt="Execute the plan 'spring'.")
    return {"text": f"The team is done: {results[2]['response']}"}


def execute(step: int, results: Sequence[Any]) -> dict[str, Any]:
    if step == 0:
        return said("getPlan", planId="spring")
    if step == 1:
        reference = results[0]["actions"][0]["references"][0]
        return said("check_prices", products=reference, percent=5.0)
    if step == 2:
        return said("executePlan", planId="spring")
    return {"text": results[2]["summary"]}


def said(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": tool, "arguments": arguments}]}
