"""Functions as tools: typed arguments, dependencies, progress, an image for the model to see."""

import asyncio
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from paddock import (
    Agent,
    AgentConfig,
    ImagePart,
    RunContext,
    ScriptedModel,
    Session,
    ToolError,
    ToolProgress,
    tool,
)


@dataclass
class Shop:
    """What the tools need of this program; one for each run."""

    customer: str
    stock: dict[str, int]


class Line(BaseModel):
    article: str
    count: int = Field(ge=1, le=100)


class Receipt(BaseModel):
    customer: str
    lines: list[Line]


@tool(requires_approval=True)
def order(ctx: RunContext[Shop], lines: list[Line]) -> Receipt:
    """Order articles for the customer.

    Args:
        lines: What to order, each article once.
    """
    for line in lines:
        left = ctx.deps.stock.get(line.article, 0)
        if line.count > left:
            raise ToolError(f"There are only {left} of {line.article}.")
        ctx.progress(f"packing {line.count} {line.article}")
        ctx.deps.stock[line.article] = left - line.count
    return Receipt(customer=ctx.deps.customer, lines=lines)


@tool(concurrent=True)
def chart(ctx: RunContext[Shop]) -> list[str | ImagePart]:
    """Show what is in stock, as a bar chart."""
    return [", ".join(ctx.deps.stock), ImagePart(bars(list(ctx.deps.stock.values())))]


def bars(values: list[int]) -> bytes:
    """A PNG with a row of black pixels for each value."""
    rows = b"".join(b"\0" + bytes(255 * (x >= value) for x in range(16)) for value in values)
    head = struct.pack(">IIBBBBB", 16, len(values), 8, 0, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def calling(name: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


SCRIPT: list[dict[str, Any]] = [
    calling("chart"),
    {**calling("order", lines=[{"article": "pear", "count": 9}]), "expect": "apple, pear"},
    {**calling("order", lines=[{"article": "pear", "count": "2"}]), "expect": "only 5 of pear"},
    {"expect": '{"customer":"Ada","lines":[{"article":"pear","count":2}]}', "text": "Done."},
]


async def main() -> None:
    shop = Shop(customer="Ada", stock={"apple": 12, "pear": 5})
    agent = Agent(AgentConfig(profile="readonly", auto_approve=True), tools=[order, chart])
    async with Session(agent, client=ScriptedModel(SCRIPT)) as session:
        events = session.stream_events("Order two pears.", deps=shop)
        async with events:
            async for envelope in events:
                if isinstance(envelope.event, ToolProgress):
                    print(f"{envelope.event.tool_name}: {envelope.event.text}")
    print(events.result.text, shop.stock)


asyncio.run(main())
