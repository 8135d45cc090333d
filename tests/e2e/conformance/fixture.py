"""The tools that MCP's conformance tests call, as far as a server of tools can have them.

Text, errors, progress and calls that a person has to approve come from a multi-agent runtime;
images and files from a toolbox like the sandbox's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, Any

from paddock import Runtime, define_tool, mcp
from paddock._concurrency import cancel
from paddock.runtime.core.content import ImagePart
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.mcp.http import HttpAddress, serve_over_http
from paddock.runtime.mcp.server import make_server
from paddock.runtime.mcp.toolbox import ServedTool, Toolbox, ToolRequest
from paddock.runtime.tools.transfer import FileOutput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
FILE: Any = {"path": "/work/data.json", "data": b"{}"}
OUTPUTS = {
    "test_image_content": ToolOutput(content="An image:", images=[ImagePart(PIXEL)]),
    "test_embedded_resource": FileOutput(content="A file:", **FILE),
    "test_multiple_content_types": FileOutput(content="Both:", images=[ImagePart(PIXEL)], **FILE),
}
TWICE = "test_input_required_result_multi_round"
APPROVED = (
    "test_elicitation",
    "test_input_required_result_elicitation",
    "test_input_required_result_request_state",
    "test_input_required_result_tampered_state",
    "test_streaming_elicitation",
)
# As the tests print it: every word of JSON Schema that a server may not leave out.
WHOLE_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
HEADER_SCHEMA = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    "required": ["region"],
}


@define_tool("test_simple_text", {}, "Return a text.")
def simple_text(args: dict[str, Any], ctx: Any) -> str:
    return "This is a simple text response for testing."


@define_tool("test_error_handling", {}, "Fail.")
def error_handling(args: dict[str, Any], ctx: Any) -> str:
    raise ValueError("This tool intentionally returns an error for testing")


@define_tool("test_tool_with_progress", {}, "Report progress.")
async def with_progress(args: dict[str, Any], ctx: Any) -> str:
    for number in (0, 50, 100):
        await ctx.progress("Working", number, 100)
    return "done"


@define_tool("test_logging_tool", {}, "Work without a word in the client's log.")
def without_log(args: dict[str, Any], ctx: Any) -> str:
    return "done"


@define_tool("json_schema_2020_12_tool", WHOLE_SCHEMA, "Take what the schema says.")
def whole_schema(args: dict[str, Any], ctx: Any) -> dict[str, Any]:
    return args


@define_tool("test_headers", HEADER_SCHEMA, "Take an argument that a header repeats.")
def header(args: dict[str, Any], ctx: Any) -> str:
    return str(args["region"])


def approved(name: str) -> Any:
    """Return a tool whose every call the client's user has to approve."""
    schema = {"type": "object", "properties": {"message": {"type": "string"}}}
    return define_tool(name, schema, "Ask first.", approval="always").bind(lambda args, ctx: "ran")


class Fixture:
    """The tools of a runtime, and those above that answer with other things than text."""

    name = "conformance"
    instructions = None

    def __init__(self, inner: Toolbox) -> None:
        self._inner = inner

    def tools(self) -> Sequence[ServedTool]:
        schema = {"type": "object", "properties": {}}
        names = [*OUTPUTS, TWICE]
        own = [ServedTool(name=name, description=name, parameters=schema) for name in names]
        return [*self._inner.tools(), *own]

    async def approval(self, name: str, arguments: dict[str, Any]) -> str | None:
        return (
            None
            if name in OUTPUTS or name == TWICE
            else await self._inner.approval(name, arguments)
        )

    async def call(self, request: ToolRequest) -> ToolOutput:
        if request.name == TWICE:
            assert request.ask is not None, "the client of the tests can be asked"
            answers = [await request.ask(what) for what in ("the first", "the second")]
            return ToolOutput(content=f"answered {answers}")
        return OUTPUTS.get(request.name) or await self._inner.call(request)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[str]:
    """Serve the tools, and yield the URL."""
    tools = [simple_text, error_handling, with_progress, without_log, whole_schema, header]
    tools += map(approved, APPROVED)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    runtime: Runtime = mcp.create_mcp_runtime(tools=tools)
    async with runtime, runtime._toolbox("mcp", None, expose_agent_tools=False) as inner:
        server = make_server(Fixture(inner), call_timeout=30)
        address = HttpAddress(port=0)
        work = serve_over_http(server, address, on_ready=ready.set_result)
        task = asyncio.create_task(work)
        try:
            yield await ready
        finally:
            await cancel(task)
