"""What a handler of a tool gets, and what becomes of what it returns."""

from __future__ import annotations

import asyncio
import copy
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from paddock import create_runtime, define_reference, define_tool
from tests.unit.runtime.orchestration.teams import (
    PATIENCE,
    call,
    echo_tool,
    of_type,
    read,
    results,
    script,
    team,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.runtime.orchestration.context import ToolContext

GO = script(call("echo", value="hello"))


async def handled(handler: Callable[[Any, Any], Any], **given: Any) -> list[dict[str, Any]]:
    """The events of a run whose tool has this handler."""
    spec = team(echo_tool().bind(handler), references=[define_reference("Words", list)])
    runtime = create_runtime(spec, interpreter="scripted", **given)
    return await read(runtime.run_specialist("worker", GO, "thread-1"))


@pytest.mark.rows("F-14", "F-17")
async def test_a_service_is_found_by_attribute_by_item_and_among_the_services() -> None:
    catalog = object()

    def look(args: dict[str, Any], ctx: ToolContext) -> Any:
        found = [ctx.catalog, ctx["catalog"], ctx.services["catalog"], ctx.get("catalog")]
        assert ctx.get("nothing", 7) == 7
        assert "catalog" in ctx
        assert "catalog" in ctx.keys()  # noqa: SIM118 - it is what is tested
        assert ctx.as_dict()["catalog"] is catalog
        assert copy.copy(ctx).catalog is catalog
        with pytest.raises(AttributeError, match="the services of this runtime are catalog"):
            _ = ctx.nothing
        with pytest.raises(KeyError, match="the services of this runtime are catalog"):
            _ = ctx["nothing"]
        return {"same": all(each is catalog for each in found), "id": ctx["tool_use_id"]}

    (result,) = results(await handled(look, services={"catalog": catalog}))
    assert result == {"same": True, "id": "scripted-tool-1"}


@pytest.mark.rows("F-17")
async def test_a_handler_knows_whose_call_it_is() -> None:
    keys: set[str] = set()

    async def look(args: dict[str, Any], ctx: ToolContext) -> Any:
        keys.add(ctx.idempotency_key)
        return [ctx.agent, ctx.thread_id, ctx.tool_use_id, ctx.cancelled]

    runtime = create_runtime(team(echo_tool().bind(look)), interpreter="scripted")
    inner = script(call("echo", value="a"), call("echo", value="b"))
    prompt = script(call("call_agent", agent="worker", prompt=inner))
    first, second, _ = results(await read(runtime.query(prompt, thread_id="thread-1")))
    assert first == ["worker", "thread-1/worker", "scripted-tool-2", False]
    assert second == ["worker", "thread-1/worker", "scripted-tool-3", False]
    assert len(keys) == 2


@pytest.mark.rows("F-17")
async def test_a_handler_makes_and_reads_references() -> None:
    async def keep(args: dict[str, Any], ctx: ToolContext) -> Any:
        made = await ctx.references.create("Words", ["a", "b"], glimpse={"count": 2})
        return [await ctx.references.resolve(made), await ctx["references"].glimpse(made)]

    assert results(await handled(keep)) == [[["a", "b"], {"count": 2}]]


@pytest.mark.rows("F-17")
async def test_a_handler_reports_its_progress() -> None:
    async def work(args: dict[str, Any], ctx: ToolContext) -> Any:
        await ctx.progress("Reading", 1, 2)
        await ctx.progress("Writing", 2, 2, milestone="half")

    events = await handled(work)
    kinds = [each["type"] for each in events[2:6]]
    assert kinds == ["tool-invocation", "tool-progress", "tool-progress", "tool-invocation"]
    assert of_type(events, "tool-progress")[1] == {
        "type": "tool-progress",
        "toolName": "echo",
        "label": "Writing",
        "phaseIndex": 2,
        "totalPhases": 2,
        "milestone": "half",
    }
    assert events[5]["result"] is None


class Item(pydantic.BaseModel):
    name: str


@dataclass
class Pair:
    left: int
    right: int


@pytest.mark.rows("F-17")
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([Item(name="a")], [{"name": "a"}]),
        (Pair(1, 2), {"left": 1, "right": 2}),
        ("text", "text"),
        ((1, 2), [1, 2]),
    ],
)
async def test_a_result_is_what_json_has(value: Any, wanted: Any) -> None:
    assert results(await handled(lambda args, ctx: value)) == [wanted]


def exits(args: dict[str, Any], ctx: Any) -> None:
    sys.exit(3)


async def exits_async(args: dict[str, Any], ctx: Any) -> None:
    sys.exit(3)


def stops(args: dict[str, Any], ctx: Any) -> None:
    raise StopIteration


def returns_itself(args: dict[str, Any], ctx: Any) -> Any:
    args["self"] = args
    return args


@pytest.mark.rows("F-17")
@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (exits, "SystemExit: 3"),
        (exits_async, "sys.exit"),
        (stops, "StopIteration"),
        (returns_itself, "JSON cannot hold"),
        (lambda args, ctx: object(), "JSON cannot hold"),
        (lambda args, ctx: float("nan"), "JSON cannot hold"),
        (lambda args: None, "TypeError"),
    ],
)
async def test_a_handler_that_fails_never_ends_the_stream(handler: Any, told: str) -> None:
    events = await handled(handler)
    assert told in results(events)[0]["error"]
    assert of_type(events, "finish")


@pytest.mark.rows("F-21")
@pytest.mark.parametrize(("error", "timed_out"), [(TimeoutError(), True), (ValueError(), False)])
async def test_the_summary_says_how_long_tools_took_and_whether_one_timed_out(
    error: Exception, timed_out: bool
) -> None:
    def fail(args: dict[str, Any], ctx: Any) -> None:
        raise error

    (summary,) = of_type(await handled(fail), "data-latency-summary")
    assert summary["data"]["hadTimeout"] is timed_out
    assert summary["data"]["toolTimings"]["echo"]["calls"] == 1
    assert summary["data"]["phases"]["llmCalls"] == 2


@pytest.mark.rows("F-17")
async def test_arguments_are_checked_before_and_results_after() -> None:
    def count(args: dict[str, Any], ctx: Any) -> Any:
        seen.append(args)
        return {"count": args["of"]["size"]}

    seen: list[Any] = []
    size = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
    arguments = {"type": "object", "properties": {"of": size}, "required": ["of"]}
    result = {"type": "object", "properties": {"count": {"type": "integer", "maximum": 3}}}
    tool = define_tool("count", arguments, output_schema=result).bind(count)
    runtime = create_runtime(team(tool), interpreter="scripted")
    prompt = script(call("count", of={"size": "big"}), call("count", of={"size": 2}))
    wrong, right = results(await read(runtime.run_specialist("worker", prompt)))
    assert "$.of.size: 'big' is not of type 'integer'" in wrong["error"]
    assert (right, seen) == ({"count": 2}, [{"of": {"size": 2}}])
    prompt = script(call("count", of={"size": 4}))
    (wrong,) = results(await read(runtime.run_specialist("worker", prompt)))
    assert "output_schema: $.count: 4 is greater than the maximum of 3" in wrong["error"]


@pytest.mark.rows("F-17")
async def test_a_synchronous_handler_hears_that_nobody_waits() -> None:
    loop = asyncio.get_running_loop()
    begun, heard = asyncio.Event(), asyncio.Event()

    def work(args: dict[str, Any], ctx: ToolContext) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not ctx.cancelled:
            pass
        loop.call_soon_threadsafe(heard.set)

    runtime = create_runtime(team(echo_tool().bind(work)), interpreter="scripted")
    stream = runtime.run_specialist("worker", GO)
    reading = asyncio.create_task(read(stream))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        await stream.cancel()
        await heard.wait()
        events = await reading
    assert events[-1]["error"]["code"] == "cancelled"
