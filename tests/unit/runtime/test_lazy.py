"""One thing that is kept for a session: renewed, and closed to the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock import (
    RuntimeOptions,
    ScriptedModel,
    create_runtime,
    dispatch_prompt,
    reconfigure_runtime,
)
from paddock.runtime.core.lazy import LazyResource
from tests.unit.runtime.conftest import FunctionTool

if TYPE_CHECKING:
    from paddock import RunContext
    from tests.unit.runtime.conftest import CountingBackend


class Thing:
    """Takes its time to close: `may_close` lets it."""

    def __init__(self) -> None:
        self.may_close = asyncio.Event()
        self.closed = asyncio.Event()

    async def aclose(self) -> None:
        await self.may_close.wait()
        self.closed.set()


async def test_closing_waits_for_those_that_were_renewed() -> None:
    async def make() -> Thing:
        return Thing()

    lazy = LazyResource(make, name="thing")
    first = await lazy.get()
    lazy.renew()
    second = await lazy.get()
    second.may_close.set()
    closing = asyncio.create_task(lazy.aclose())
    async with asyncio.timeout(60):
        await second.closed.wait()
        assert not closing.done()
        first.may_close.set()
        await closing
    assert first.closed.is_set()


async def test_who_waits_for_a_thing_that_is_renewed_gets_the_new_one() -> None:
    may_make = asyncio.Event()
    made: list[Thing] = []

    async def make() -> Thing:
        await may_make.wait()
        made.append(Thing())
        made[-1].may_close.set()
        return made[-1]

    lazy = LazyResource(make, name="thing")
    asking = asyncio.create_task(lazy.get())
    await asyncio.sleep(0)
    lazy.renew()
    may_make.set()
    async with asyncio.timeout(60):
        given = await asking
        assert not given.closed.is_set()
        assert given is made[1]
        await lazy.aclose()
    assert [thing.closed.is_set() for thing in made] == [True, True]


async def test_another_working_directory_leaves_the_sandbox_to_the_run_that_is_going_on(
    backend: CountingBackend,
) -> None:
    changed, begun = asyncio.Event(), asyncio.Event()
    alive: list[bool] = []

    async def work(context: RunContext[None]) -> str:
        sandbox = await context.sandbox()
        begun.set()
        await changed.wait()
        alive.append(sandbox in backend.live and sandbox is await context.sandbox())
        return "done"

    call: dict[str, Any] = {"tool_calls": [{"name": "work", "arguments": {}}]}
    runtime = create_runtime("x", options=RuntimeOptions(backend=backend))
    runtime.registry.register(FunctionTool(work))
    runtime.session._resources.given_client = ScriptedModel(
        [call, {"text": "1"}, call, {"text": "2"}]
    )
    async with runtime, asyncio.timeout(60):
        handle = dispatch_prompt(runtime, "Go.")
        await begun.wait()
        reconfigure_runtime(runtime, working_dir="/tmp")
        changed.set()
        await handle.wait()
        await dispatch_prompt(runtime, "Go on.").wait()
    assert alive == [True, True]
    assert (len(backend.made), backend.live) == (2, [])
