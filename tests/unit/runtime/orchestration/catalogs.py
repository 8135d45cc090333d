"""A catalog and a database for tests, and an agent that looks at both."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

from paddock import create_runtime
from paddock.runtime.orchestration.define import (
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
)
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PROVIDERS,
    call,
    read,
    results,
    script,
)

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.orchestration.spec import RuntimeSpec

ENTRIES: list[dict[str, Any]] = [
    {
        "id": "table:orders",
        "itemType": "table",
        "name": "orders",
        "qualified_name": "main.orders",
        "content": "What customers have bought, one row for each order.",
        "tags": ["sales"],
        "related": ["metric:revenue", {"id": "table:customers", "by": "customer_id"}],
        "metadata": {"schemaName": "main", "tableName": "orders"},
    },
    {
        "id": "table:customers",
        "item_type": "table",
        "name": "customers",
        "qualifiedName": "main.customers",
        "content": "Who buys.",
    },
    {"id": "column:orders.price", "itemType": "column", "name": "price",
     "qualified_name": "main.orders.price", "related": ["table:orders"]},
    {"id": "column:orders.id", "itemType": "column", "name": "id",
     "metadata": {"schemaName": "main", "tableName": "orders"}},
    {"id": "metric:revenue", "itemType": "metric", "name": "revenue",
     "content": "The sum of all prices.", "related": ["document:finance"]},
    {"id": "document:finance", "itemType": "document", "name": "Finance handbook"},
    {"id": "knowledge:alone", "itemType": "knowledge", "name": "nothing leads here"},
]  # fmt: skip
INLINE = {"catalog": {"kind": "inline", "entries": ENTRIES}}


def team(toolkit: Any = "catalog") -> RuntimeSpec:
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["analyst"]),
            define_specialist("analyst", model=MODEL, prompt="Look.", toolkits=[toolkit]),
        ],
        providers=PROVIDERS,
    )


async def answers(environment: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """What the tools return to a specialist, by way of the stream."""
    async with create_runtime(
        team(), interpreter="scripted", data_environment=environment
    ) as runtime:
        prompt = script(*(call(tool, **arguments) for tool, arguments in calls))
        return results(await read(runtime.run_specialist("analyst", prompt)))


async def answer(environment: Any, tool: str, **arguments: Any) -> Any:
    (found,) = await answers(environment, (tool, arguments))
    return found


def make_shop(tmp_path: Path) -> dict[str, Any]:
    """A database, and what says where it is."""
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            "CREATE TABLE orders (id INTEGER, price REAL, note TEXT, image BLOB);"
            "INSERT INTO orders VALUES (1, 9.5, 'rope', x'00ff'), (2, 4, NULL, NULL);"
            'CREATE TABLE "we`ird; name" (a); INSERT INTO "we`ird; name" VALUES (9007199254740993);'
        )
    return {"target_database_url": f"sqlite:{path}"}
