"""Run the team: ``python -m examples.pricing_team [--docker] [--served]``.

The executor's tools work in a local sandbox, or with ``--docker`` in a container of
``paddock:base``. The agents follow a script, or with ``--served`` ask models over HTTP: those of
a server in this process, which pretends.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from examples.pricing_team.catalogue import Catalogue
from examples.pricing_team.pretend import PROMPT, answer, script
from examples.pricing_team.team import PRODUCTS, dispatcher, make_team
from paddock import Backend, DockerBackend, LocalBackend, Runtime, create_runtime
from paddock.testing.model_server import ModelServer

TURNS = 5  # at most, of each agent


async def main(*options: str) -> None:
    backend: Backend = LocalBackend()
    if "--docker" in options:
        backend = DockerBackend(image="paddock:base")
    async with contextlib.AsyncExitStack() as stack:
        catalogue = Catalogue(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "shop.db")
        catalogue.seed()
        server = await stack.enter_async_context(ModelServer([answer] * TURNS))
        os.environ["PRICING_KEY"] = server.api_key
        runtime = await stack.enter_async_context(
            create_runtime(
                make_team(server.base_url, backend=backend),
                interpreter="openai" if "--served" in options else "scripted",
                services={"catalogue": catalogue},
                action_dispatcher=dispatcher(catalogue),
            )
        )
        await price(runtime, catalogue, served="--served" in options)


async def price(runtime: Runtime, catalogue: Catalogue, *, served: bool) -> None:
    before = catalogue.in_segment("enterprise")
    prompt = PROMPT
    if not served:
        products = await runtime.create_reference(PRODUCTS, [each["id"] for each in before])
        prompt = script(products)
    async for event in runtime.query(prompt, thread_id="spring-prices", limits={"turns": 50}):
        show(event)
        if event["type"] == "approval-required":
            await runtime.respond_to_approval(event["data"]["id"], "approve", feedback="Go.")
    after = catalogue.in_segment("enterprise")
    print(f"{before[0]['id']}: {before[0]['price']:.2f} -> {after[0]['price']:.2f}")


def show(event: dict[str, Any]) -> None:
    match event:
        case {"type": "tool-agent", "agentName": name, "state": state}:
            print(f"{name}: {state}")
        case {"type": "tool-invocation", "toolName": name, "state": "result", "result": result}:
            print(f"  {name}: {str(result)[:70]}")
        case {"type": "plan-status-change", "data": data}:
            print(f"  plan {data['planId']}: {data['from']} -> {data['to']}")
        case {"type": "approval-required", "data": data}:
            print(f"  approve {data['kind']} {data['target']}?")
        case {"type": "error", "error": error}:
            raise SystemExit(error["message"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
