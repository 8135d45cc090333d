"""Where the tools of a runtime's agents work, and when that ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    LocalBackend,
    SandboxClosed,
    SessionError,
    create_runtime,
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from paddock.runtime.orchestration.sandboxes import Sandboxes
from tests.unit.runtime.conftest import CountingBackend
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PATIENCE,
    PROVIDERS,
    call,
    of_type,
    read,
    results,
    script,
)

if TYPE_CHECKING:
    from paddock import RuntimeSpec, Sandbox


@dataclass
class Used:
    """The sandboxes that the tool ``where`` has got, in their order."""

    sandboxes: list[Sandbox] = field(default_factory=list)

    @property
    def numbers(self) -> list[int]:
        """Which of them were the same."""
        order: dict[int, int] = {}
        return [order.setdefault(id(each), len(order)) for each in self.sandboxes]

    @property
    def open(self) -> list[bool]:
        return [not each.closed for each in self.sandboxes]


def team(used: Used, one: dict[str, Any], other: dict[str, Any], **fields: Any) -> RuntimeSpec:
    """A coordinator over the specialists ``one`` and ``other``, whose tool asks for a sandbox."""

    @define_tool("where", {})
    async def where(args: Any, ctx: Any) -> int:
        used.sandboxes.append(await ctx.sandbox())
        return len(used.sandboxes)

    specialists = [
        define_specialist(name, model=MODEL, prompt="x", tools=[where], **given)
        for name, given in (("one", one), ("other", other))
    ]
    lead = define_coordinator("lead", model=MODEL, prompt="x", routes=["one", "other"])
    return define_runtime(
        define_tenant("acme", "v1"), agents=[lead, *specialists], providers=PROVIDERS, **fields
    )


def ask(*agents: str) -> str:
    twice = script(call("where"), call("where"))
    return script(*(call("call_agent", agent=agent, prompt=twice) for agent in agents))


@pytest.mark.rows("F-39")
@pytest.mark.parametrize(
    ("scope", "of_other", "numbers"),
    [
        (None, {}, [0, 0, 0, 0]),
        ("thread", {}, [0, 0, 0, 0]),
        ("agent", {}, [0, 0, 1, 1]),
        ("call", {}, [0, 1, 2, 3]),
        ("thread", {"sandbox": "agent"}, [0, 0, 1, 1]),
        ("call", {"sandbox": "thread"}, [0, 1, 2, 2]),
        ("thread", {"backend": CountingBackend(labels={"for": "other"})}, [0, 0, 1, 1]),
        ("thread", {"backend": CountingBackend()}, [0, 0, 0, 0]),
    ],
)
async def test_calls_share_a_sandbox_as_the_spec_says(
    scope: Any, of_other: dict[str, Any], numbers: list[int]
) -> None:
    used = Used()
    spec = team(used, {}, of_other, sandbox=scope, backend=CountingBackend())
    runtime = create_runtime(spec, interpreter="scripted")
    await read(runtime.query(ask("one", "other"), thread_id="t"))
    assert used.numbers == numbers
    assert not any(used.open)
    await runtime.aclose()


@pytest.mark.rows("F-39")
async def test_a_runtime_that_is_entered_keeps_the_sandbox_of_a_thread() -> None:
    used = Used()
    spec = team(used, {}, {})
    async with create_runtime(spec, interpreter="scripted", backend=CountingBackend()) as runtime:
        await read(runtime.query(ask("one"), thread_id="t"))
        await read(runtime.query(ask("other"), thread_id="t"))
        await read(runtime.query(ask("one"), thread_id="another"))
        assert used.numbers == [0, 0, 0, 0, 1, 1]
        assert all(used.open)
    assert not any(used.open)


@pytest.mark.rows("F-39")
async def test_the_sandboxes_of_a_thread_can_be_ended_and_those_of_no_thread_end() -> None:
    used = Used()
    spec = team(used, {}, {}, sandbox="call")
    options: Any = {"backend": CountingBackend(), "sandbox": "agent"}
    async with create_runtime(spec, interpreter="scripted", **options) as runtime:
        await read(runtime.query(ask("one", "other"), thread_id="t"))
        await read(runtime.run_specialist("one", script(call("where"))))
        assert used.numbers == [0, 0, 1, 1, 2]
        assert used.open == [True] * 4 + [False]
        await runtime.end_sandboxes("t")
        await runtime.end_sandboxes("t")
        assert not any(used.open)
        await read(runtime.query(ask("one"), thread_id="t"))
        assert used.numbers[-1] == 3


@pytest.mark.rows("F-39")
async def test_a_sandbox_that_was_lost_is_made_again() -> None:
    used = Used()
    spec = team(used, {}, {})
    async with create_runtime(spec, interpreter="scripted", backend=CountingBackend()) as runtime:
        await read(runtime.query(ask("one"), thread_id="t"))
        await used.sandboxes[-1].aclose()  # as if it was taken away
        await read(runtime.query(ask("one"), thread_id="t"))
        assert used.numbers == [0, 0, 1, 1]


@pytest.mark.rows("F-39")
@pytest.mark.parametrize(
    ("first", "second", "left"), [(False, False, 0), (True, False, 1), (False, True, 1)]
)
async def test_a_sandbox_is_kept_if_one_of_the_runs_of_its_thread_keeps_it(
    first: bool, second: bool, left: int
) -> None:
    backend = CountingBackend()
    sandboxes = Sandboxes(team(Used(), {}, {}, backend=backend))
    for keep in (first, second):
        run, used = sandboxes.during_run("t", keep=keep), sandboxes.during_call("one", "t")
        async with run, used as access:
            await access()
    assert len(backend.live) == left
    await sandboxes.release("t")
    assert backend.live == []


@pytest.mark.rows("F-39")
async def test_calls_that_see_a_lost_sandbox_at_once_have_one_new_one() -> None:
    backend = CountingBackend()
    sandboxes = Sandboxes(team(Used(), {}, {}, backend=backend))
    async with sandboxes.during_run("t", keep=True), sandboxes.during_call("one", "t") as access:
        await (await access()).aclose()
        found = await asyncio.gather(access(), access(), access())
    assert len({id(each) for each in found}) == 1
    assert not found[0].closed
    await sandboxes.aclose()
    assert len(backend.made) == 2
    assert backend.live == []


@pytest.mark.rows("F-39")
async def test_the_sandbox_of_a_thread_outlives_the_first_of_two_runs_in_it() -> None:
    used, begun, go_on = Used(), asyncio.Event(), asyncio.Event()

    @define_tool("wait", {})
    async def wait(args: Any, ctx: Any) -> bool:
        used.sandboxes.append(await ctx.sandbox())
        begun.set()
        await go_on.wait()
        return not used.sandboxes[0].closed

    spec = team(used, {}, {}, backend=CountingBackend())
    slow = define_specialist("slow", model=MODEL, prompt="x", tools=[wait])
    spec = spec.model_copy(update={"agents": (*spec.agents, slow)})
    runtime = create_runtime(spec, interpreter="scripted")
    first = asyncio.create_task(read(runtime.run_specialist("slow", script(call("wait")), "t")))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    with pytest.raises(SessionError, match="'t'"):
        await runtime.end_sandboxes("t")
    await read(runtime.run_specialist("one", script(call("where")), "t"))
    assert used.open == [True, True]
    go_on.set()
    assert results(await first) == [True]
    assert used.numbers == [0, 0]
    assert not any(used.open)


@pytest.mark.rows("F-39")
async def test_leaving_the_stream_ends_its_sandboxes() -> None:
    used = Used()
    spec = team(used, {}, {}, backend=CountingBackend())
    stream = create_runtime(spec, interpreter="scripted").query(ask("one"), thread_id="t")
    async for event in stream:
        if event.get("state") == "result":
            break
    await stream.aclose()
    assert used.open == [False] * len(used.sandboxes)
    assert used.sandboxes


@pytest.mark.rows("F-17", "F-39")
async def test_a_sandbox_that_cannot_be_made_is_the_result_of_the_call() -> None:
    used = Used()
    spec = team(used, {}, {}, backend=CountingBackend(error=OSError("no room")))
    runtime = create_runtime(spec, interpreter="scripted")
    events = await read(runtime.run_specialist("one", script(call("where"))))
    (result,) = results(events)
    assert "no room" in result["error"]
    assert of_type(events, "finish")


@pytest.mark.rows("F-39")
async def test_a_call_that_has_ended_makes_no_sandbox() -> None:
    kept: list[Any] = []

    @define_tool("keep", {})
    async def keep(args: Any, ctx: Any) -> None:
        kept.append(ctx.sandbox)

    worker = define_specialist("worker", model=MODEL, prompt="x", tools=[keep], sandbox="call")
    spec = define_runtime(define_tenant("acme", "v1"), agents=[worker], providers=PROVIDERS)
    runtime = create_runtime(spec, interpreter="scripted", backend=CountingBackend())
    await read(runtime.run_specialist("worker", script(call("keep"))))
    with pytest.raises(SandboxClosed):
        await kept[0]()


@pytest.mark.rows("F-17", "F-39")
async def test_a_tool_works_in_the_sandbox_as_if_it_was_there() -> None:
    @define_tool("work", {})
    async def work(args: Any, ctx: Any) -> Any:
        await ctx.sandbox.fs.write_text("note", "hello")
        result = await ctx.sandbox.exec(["cat", "note"])
        sandbox = await ctx.sandbox
        whole = [name for name in ("open_read", "nothing") if hasattr(ctx.sandbox.fs, name)]
        return [result.stdout, await sandbox.fs.read_text("note"), whole]

    worker = define_specialist("worker", model=MODEL, prompt="x", tools=[work])
    spec = define_runtime(define_tenant("acme", "v1"), agents=[worker], providers=PROVIDERS)
    backend = LocalBackend(isolation="none")
    runtime = create_runtime(spec, interpreter="scripted", backend=backend)
    events = await read(runtime.run_specialist("worker", script(call("work"))))
    assert results(events) == [["hello", "hello", []]]


@pytest.mark.rows("F-39")
async def test_a_secret_of_the_backend_reaches_the_sandbox_and_no_event() -> None:
    @define_tool("leak", {})
    async def leak(args: Any, ctx: Any) -> Any:
        result = await ctx.sandbox.exec('printf %s "$TOKEN"')
        return {"length": len(result.stdout), "token": result.stdout}

    worker = define_specialist("worker", model=MODEL, prompt="x", tools=[leak])
    spec = define_runtime(define_tenant("acme", "v1"), agents=[worker], providers=PROVIDERS)
    backend = LocalBackend(isolation="none", secrets={"TOKEN": "hidden-token"})
    runtime = create_runtime(spec, interpreter="scripted", backend=backend)
    events = await read(runtime.run_specialist("worker", script(call("leak"))))
    assert results(events)[0]["length"] == len("hidden-token")
    assert "hidden-token" not in str(events)


@pytest.mark.rows("F-39")
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"backend": "nowhere"}, "the runtime: .*'nowhere'"),
        ({"backend": "recipe:docker"}, "the runtime had a recipe for its backend"),
    ],
)
def test_a_backend_that_there_is_not_is_refused_at_once(
    fields: dict[str, Any], problem: str
) -> None:
    worker = define_specialist("worker", model=MODEL, prompt="x")
    spec = define_runtime(
        define_tenant("acme", "v1"), agents=[worker], providers=PROVIDERS, **fields
    )
    with pytest.raises(ValueError, match=problem):
        create_runtime(spec)
    create_runtime(spec, backend="local")
    of_agent = define_specialist("worker", model=MODEL, prompt="x", **fields)
    spec = define_runtime(define_tenant("acme", "v1"), agents=[of_agent], providers=PROVIDERS)
    with pytest.raises(ValueError, match=problem.replace("the runtime", "agent 'worker'")):
        create_runtime(spec, backend="local")
