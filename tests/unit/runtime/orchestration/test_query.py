"""The stream of a run: when it starts, what ends it, and what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from paddock import CancellationToken, ModelError, SessionError, create_runtime
from paddock.runtime.core.model import ModelResponse, TextDelta, Usage
from paddock.runtime.orchestration.stream import BACKLOG
from tests.unit.runtime.orchestration.teams import (
    PATIENCE,
    call,
    echo_tool,
    of_type,
    read,
    script,
    team,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.model import ModelEvent, ModelRequest


class Model:
    """Answers each request with what `answer` yields."""

    def __init__(self, *answer: ModelEvent | Exception, gate: asyncio.Event | None = None) -> None:
        self.answer = answer
        self.gate = gate
        self.begun = asyncio.Event()
        self.said = 0
        self.ended = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.begun.set()
        try:
            for each in self.answer:
                if isinstance(each, Exception):
                    raise each
                yield each
                self.said += 1
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.ended += 1

    async def aclose(self) -> None:
        """Nothing is open."""


def hanging() -> Model:
    return Model(TextDelta(text="I think"), gate=asyncio.Event())


async def nothing_left(before: set[asyncio.Task[Any]]) -> None:
    """Wait until only the tasks `before` are left."""
    left = asyncio.all_tasks() - before
    if left:
        assert not (await asyncio.wait(left, timeout=PATIENCE))[1]


@pytest.mark.rows("F-18")
async def test_a_run_starts_when_its_stream_is_first_iterated_and_once_only() -> None:
    model = Model(TextDelta(text="Hi"), ModelResponse(text="Hi"))
    stream = create_runtime(team(), interpreter=model).query("Say hello", thread_id="t")
    assert stream.run_id
    await asyncio.sleep(0)
    assert not model.begun.is_set()
    assert [each["text"] for each in of_type(await read(stream), "text")] == ["Hi"]
    with pytest.raises(SessionError, match=f"run {stream.run_id} are iterated already"):
        await read(stream)
    with pytest.raises(RuntimeError):
        aiter(stream)


@pytest.mark.rows("F-18")
@pytest.mark.parametrize("way", ["break", "error", "aclose", "task"])
async def test_whoever_stops_reading_cancels_the_run_and_leaves_nothing(way: str) -> None:
    before = asyncio.all_tasks()
    model = hanging()
    runtime = create_runtime(team(), interpreter=model)

    async def leave() -> None:
        stream = runtime.query("Think", thread_id="t")
        async for event in stream:
            if event["type"] != "text":
                continue
            match way:
                case "break":
                    break
                case "error":
                    raise LookupError
                case "aclose":
                    await stream.aclose()
                    await stream.aclose()

    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(leave())
        await model.begun.wait()
        if way == "task":
            await asyncio.sleep(0)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LookupError):
            await task
    del task
    await nothing_left(before)
    assert model.ended == 1


@pytest.mark.rows("F-18")
async def test_a_cancelled_run_ends_its_stream_with_one_error() -> None:
    model = hanging()
    stream = create_runtime(team(), interpreter=model).query("Think", thread_id="t")
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            events.append(event)
            if event["type"] == "text":
                await stream.cancel("enough")
    assert events[-1] == {
        "type": "error",
        "error": {"message": "the run was cancelled: enough", "code": "cancelled"},
    }
    assert not of_type(events, "finish")


@pytest.mark.rows("F-18")
@pytest.mark.parametrize("early", [True, False])
async def test_a_token_cancels_the_runs_that_follow_it(early: bool) -> None:
    model, token = hanging(), CancellationToken()
    runtime = create_runtime(team(), interpreter=model)
    if early:
        token.cancel("enough")
    reading = asyncio.create_task(read(runtime.query("Think", thread_id="t", token=token)))
    if not early:
        await asyncio.wait_for(model.begun.wait(), PATIENCE)
        await asyncio.to_thread(token.cancel, "enough")
    events = await reading
    assert events[-1]["error"] == {"message": "the run was cancelled: enough", "code": "cancelled"}


@pytest.mark.rows("F-18")
async def test_a_slow_reader_slows_the_run() -> None:
    model = Model(*[TextDelta(text="x")] * 10 * BACKLOG, ModelResponse(text="x" * 10 * BACKLOG))
    stream = aiter(create_runtime(team(), interpreter=model).query("Go", thread_id="t"))
    await anext(stream)
    await asyncio.wait_for(model.begun.wait(), PATIENCE)
    for _ in range(20 * BACKLOG):
        await asyncio.sleep(0)
    assert model.said <= BACKLOG
    events = [event async for event in _rest(stream)]
    assert len(of_type(events, "text")) == 10 * BACKLOG


async def _rest(stream: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    while (event := await anext(stream, None)) is not None:
        yield event


@pytest.mark.rows("F-18")
async def test_a_model_that_fails_ends_the_stream_with_one_error() -> None:
    model = Model(TextDelta(text="I th"), ModelError("the service is on fire"))
    events = await read(create_runtime(team(), interpreter=model).query("Think", thread_id="t"))
    assert events[-1] == {
        "type": "error",
        "error": {"message": "the service is on fire", "code": "model"},
    }
    assert not of_type(events, "finish")


@pytest.mark.rows("F-18")
@pytest.mark.parametrize(
    ("service", "reason"),
    [("stop", "stop"), ("max_tokens", "length"), ("content_filter", "content-filter")],
)
async def test_the_finish_reason_says_how_the_answer_ended(service: str, reason: str) -> None:
    used = Usage(input_tokens=10, output_tokens=2, cached_tokens=4, cost_usd=0.5)
    answer = ModelResponse(text="Hi", finish_reason=service, usage=used, is_priced=True)
    model = Model(TextDelta(text="Hi"), answer)
    events = await read(create_runtime(team(), interpreter=model).query("Hi", thread_id="t"))
    (finish,) = of_type(events, "finish")
    assert finish == {
        "type": "finish",
        "finishReason": reason,
        "usage": {
            "promptTokens": 10,
            "completionTokens": 2,
            "cacheReadInputTokens": 4,
            "cacheCreationInputTokens": 0,
            "totalTokens": 12,
        },
    }
    kinds = [each["type"] for each in events[-4:]]
    assert kinds == ["data-cost-summary", "data-latency-summary", "finish", "tool-agent"]
    (cost,) = of_type(events, "data-cost-summary")
    assert cost["data"]["totalUsd"] == 0.5
    assert cost["data"]["totalTokens"] == 12
    assert cost["data"]["agents"]["lead"]["usd"] == 0.5
    assert not of_type(events, "error")


@pytest.mark.rows("F-18")
async def test_two_runs_of_one_stateful_agent_in_one_thread_exclude_each_other() -> None:
    model = hanging()
    runtime = create_runtime(team(), interpreter=model)
    first = runtime.query("Think", thread_id="t")
    async for event in first:
        if event["type"] == "text":
            events = await read(runtime.query("Think", thread_id="t"))
            assert events[-1]["error"]["code"] == "thread_busy"
            break
    await first.aclose()


@pytest.mark.rows("F-14")
async def test_closing_a_runtime_ends_its_runs() -> None:
    before = asyncio.all_tasks()
    model = hanging()
    async with create_runtime(team(), interpreter=model) as runtime:
        stream = runtime.query("Think", thread_id="t")
        reading = asyncio.create_task(read(stream))
        await asyncio.wait_for(model.begun.wait(), PATIENCE)
    events = await reading
    assert events[-1]["error"] == {
        "message": "the run was cancelled: the runtime was closed",
        "code": "cancelled",
    }
    await nothing_left(before)


@pytest.mark.rows("F-18")
@pytest.mark.parametrize(
    ("prompt", "thread", "error"),
    [("", "t", ValueError), (5, "t", TypeError), ("x", "", ValueError), ("x", None, TypeError)],
)
def test_a_prompt_and_a_thread_are_texts(prompt: Any, thread: Any, error: Any) -> None:
    with pytest.raises(error):
        create_runtime(team()).query(prompt, thread)


@pytest.mark.rows("F-19")
async def test_an_unknown_specialist_is_one_error_that_lists_those_there_are() -> None:
    runtime = create_runtime(team(), interpreter="scripted")
    for name in ("nobody", "lead"):
        (event,) = await read(runtime.run_specialist(name, "Hi"))
        assert event["error"]["code"] == "unknown_specialist"
        assert "there are worker" in event["error"]["message"]


@pytest.mark.rows("F-26")
async def test_a_thread_remembers_its_prompts_and_another_one_does_not() -> None:
    requests: list[Any] = []

    class Listens(Model):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            requests.append([each["content"] for each in request.messages])
            async for event in super().stream(request):
                yield event

    model = Listens(TextDelta(text="Yes"), ModelResponse(text="Yes"))
    runtime = create_runtime(team(), interpreter=model)
    await read(runtime.query("One", thread_id="t"))
    await read(runtime.query("Two", thread_id="t"))
    await read(runtime.query("Three", thread_id="other"))
    assert requests == [["Lead.", "One"], ["Lead.", "One", "Yes", "Two"], ["Lead.", "Three"]]
    requests.clear()
    for _ in range(2):
        await read(runtime.run_specialist("worker", "Four", thread_id="t"))
    assert requests == [["Work.", "Four"]] * 2


@pytest.mark.rows("F-18")
async def test_a_reader_may_change_what_it_gets() -> None:
    seen: list[Any] = []
    tool = echo_tool().bind(lambda args, ctx: seen.append(args))
    runtime = create_runtime(team(tool), interpreter="scripted")
    async for event in runtime.run_specialist("worker", script(call("echo", value="hello"))):
        event.get("args", {}).clear()
        if event.get("state") == "result" and event["type"] == "tool-invocation":
            assert event["result"] is None
    assert seen == [{"value": "hello"}]
