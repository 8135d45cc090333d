"""Calls of the `sqlite` tool on a database in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.sql.config import parse_databases
from tests.lending import lending

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.tools.registry import ToolRegistry
    from paddock.sandbox import Sandbox

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


def registry_of(file: Path, profile: str = "readonly", **settings: Any) -> ToolRegistry:
    given = {"main": {"type": "sqlite", "path": str(file), **settings}}
    return build_registry(profile, databases=parse_databases(given))


async def call(
    registry: ToolRegistry, sandbox: Sandbox | None = None, **arguments: Any
) -> ToolOutput:
    context = lending(sandbox)
    return await registry.dispatch(
        ToolInvocation(call_id="1", tool_name="sqlite", arguments=arguments, context=context)
    )


async def query(registry: ToolRegistry, sql: str) -> ToolOutput:
    return await call(registry, operation="query", sql=sql)
