"""Runs for tests that are left when they ask for an approval."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock import (
    RuntimeRun,
    create_runtime,
    define_tool,
)
from tests.unit.runtime.orchestration.teams import (
    PATIENCE,
    call,
    script,
    team,
)

if TYPE_CHECKING:
    from paddock import Runtime

GO = script(call("send", value="hello"))
VIA_LEAD = script(call("call_agent", agent="worker", prompt=GO))

STORES = ["memory:", "sqlite:{}/team.db"]


def sender(sent: list[Any], store: str = "memory:", **given: Any) -> Runtime:
    def send(args: dict[str, Any], ctx: Any) -> dict[str, Any]:
        sent.append((args["value"], ctx.idempotency_key))
        return {"sent": True}

    tool = define_tool("send", {"value": str}, approval="always").bind(send)
    return create_runtime(team(tool), interpreter="scripted", store=store, **given)


async def left(runtime: Runtime, prompt: str = VIA_LEAD, thread: str = "t-1") -> dict[str, Any]:
    """Leave a run when it asks for an approval; return that event."""
    async with asyncio.timeout(PATIENCE):
        stream = runtime.query(prompt, thread)
        async for event in stream:
            if event["type"] == "approval-required":
                break
        await stream.aclose()
    return event


async def one_run(runtime: Runtime, thread: str = "t-1") -> RuntimeRun:
    (run,) = await runtime.runs(thread)
    return run
