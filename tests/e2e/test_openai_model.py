"""The OpenAI model against a real server on a real socket, through all that can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ModelError
from paddock.runtime.models._answer import AnswerBuilder, BrokenStream
from paddock.runtime.models._sse import SSEParser
from paddock.runtime.models.base import (
    ModelEvent,
    ModelRequest,
    ModelResponse,
    TextDelta,
    ToolCall,
    Usage,
)
from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import (
    Body,
    Cut,
    Fault,
    ModelServer,
    Reset,
    Stall,
    Status,
    StreamError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HELLO = {"text": "Hello there.", "usage": {"input_tokens": 10, "output_tokens": 3}}
TWO_CALLS: dict[str, Any] = {
    "text": "I look.",
    "tool_calls": [
        {"name": "bash", "arguments": {"command": "python -m pytest -q"}},
        {"name": "read", "arguments": {"path": "src/été.py"}},
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 64,
        "reasoning_tokens": 7,
    },
}
ONE_CALL: dict[str, Any] = {
    "tool_calls": [{"name": "bash", "arguments": {"command": "true"}}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
REQUEST = ModelRequest(model="scripted", messages=[{"role": "user", "content": "Go."}])
DEADLINE = 10.0  # seconds; far above what anything here takes


@contextlib.asynccontextmanager
async def served(
    turns: Sequence[Any], *, faults: Sequence[Fault | None] = (), **options: Any
) -> AsyncIterator[tuple[OpenAIModel, ModelServer]]:
    async with ModelServer(turns, faults=faults) as server:
        model = OpenAIModel(base_url=server.base_url, api_key=server.api_key, **options)
        try:
            async with asyncio.timeout(DEADLINE):
                yield model, server
        finally:
            await model.aclose()


async def collect(model: OpenAIModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


async def answered(model: OpenAIModel, request: ModelRequest = REQUEST) -> ModelResponse:
    *deltas, response = await collect(model, request)
    assert isinstance(response, ModelResponse)
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == response.text
    return response


async def test_text_streams_and_the_whole_answer_comes_last() -> None:
    async with served([HELLO]) as (model, _):
        response = await answered(model)
    assert response.text == "Hello there."
    assert response.usage == Usage(input_tokens=10, output_tokens=3)
    assert response.finish_reason == "stop"


async def test_text_is_given_out_while_the_service_still_holds_the_rest() -> None:
    first = 400  # bytes: the first event and some of the text
    async with served([HELLO], faults=[Stall(after=first)]) as (model, server):
        async with aclosing(model.stream(REQUEST)) as events:
            assert await anext(events) == TextDelta(text="Hello ")
            assert not server.requests[0].left.is_set()
        await server.requests[0].left.wait()


async def test_parallel_tool_calls_in_pieces_come_out_whole_and_in_order() -> None:
    async with served([TWO_CALLS]) as (model, _):
        response = await answered(model)
    assert response.tool_calls == (
        ToolCall(id="call_1_1", name="bash", arguments='{"command": "python -m pytest -q"}'),
        ToolCall(id="call_1_2", name="read", arguments='{"path": "src/\\u00e9t\\u00e9.py"}'),
    )
    assert response.finish_reason == "tool_calls"
    assert response.usage == Usage(
        input_tokens=100, output_tokens=20, cached_tokens=64, reasoning_tokens=7
    )


async def test_malformed_arguments_and_unknown_tools_pass_through_as_sent() -> None:
    turn = {"tool_calls": [{"name": "no_such_tool", "arguments": '{"command": '}]}
    async with served([turn]) as (model, _):
        response = await answered(model)
    (call,) = response.tool_calls
    assert (call.name, call.arguments) == ("no_such_tool", '{"command": ')


async def test_what_is_not_set_is_not_sent() -> None:
    async with served([HELLO]) as (model, server):
        await collect(model)
    assert server.requests[0].body == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "Go."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert server.requests[0].headers["content-type"] == "application/json"
    assert server.requests[0].headers["x-stainless-read-timeout"] == "60.0"


async def test_what_is_set_is_sent_and_flex_waits_longer() -> None:
    tools = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]
    request = ModelRequest(
        model="scripted",
        messages=[{"role": "user", "content": "é \udc80"}],
        tools=tools,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        service_tier="flex",
    )
    async with served([HELLO]) as (model, server):
        await collect(model, request)
    body = server.requests[0].body
    assert body["tools"] == tools
    assert body["response_format"] == {"type": "json_object"}
    assert body["reasoning_effort"] == "low"
    assert body["service_tier"] == "flex"
    assert body["messages"][0]["content"] == "é ?"
    assert server.requests[0].headers["x-stainless-read-timeout"] == "900.0"


async def test_the_cost_comes_from_the_price_list() -> None:
    turn = {"text": "Hi.", "usage": {"input_tokens": 1_000_000, "output_tokens": 0}}
    request = ModelRequest(model="gpt-5-mini", messages=REQUEST.messages)
    async with served([turn]) as (model, _):
        assert (await answered(model, request)).usage.cost_usd > 0
        assert (await answered(model)).usage.cost_usd == 0


async def test_turns_share_one_connection() -> None:
    async with served([HELLO]) as (model, server):
        for _ in range(5):
            await collect(model)
    assert len({request.client for request in server.requests}) == 1


async def test_many_conversations_at_once_get_each_their_own_answer() -> None:
    def echo(request: ModelRequest) -> dict[str, Any]:
        return {"text": request.messages[0]["content"]}

    async with served([echo]) as (model, _):
        requests = [
            ModelRequest(model="m", messages=[{"role": "user", "content": f"number {n}"}])
            for n in range(50)
        ]
        answers = await asyncio.gather(*(answered(model, request) for request in requests))
    assert [answer.text for answer in answers] == [f"number {n}" for n in range(50)]


@pytest.mark.rows("C42")
async def test_429_waits_as_long_as_the_service_asks() -> None:
    async with served([HELLO], faults=[Status(code=429, retry_after=0.2)]) as (model, server):
        begin = time.monotonic()
        assert (await answered(model)).text == "Hello there."
        assert 0.2 <= time.monotonic() - begin < 0.45  # below what it waits unasked
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 529])
@pytest.mark.rows("C42")
async def test_a_passing_error_is_tried_again_and_usage_counts_once(code: int) -> None:
    faults = [Status(code=code, retry_after=0.01)] * 3
    async with served([HELLO], faults=faults) as (model, server):
        response = await answered(model)
    assert response.usage == Usage(input_tokens=10, output_tokens=3)
    assert len(server.requests) == 4
    assert all(request.body == server.requests[0].body for request in server.requests)


@pytest.mark.rows("C42")
async def test_a_lasting_error_ends_as_a_model_error_with_its_status() -> None:
    faults = [Status(code=529, retry_after=0.001, message="overloaded")] * 20
    async with served([HELLO], faults=faults) as (model, server):
        with pytest.raises(ModelError) as caught:
            await collect(model)
    assert caught.value.status == 529
    assert str(caught.value) == "API error 529 (after retries): overloaded"
    assert len(server.requests) == 9


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_an_error_that_would_come_again_is_not_tried_again(code: int) -> None:
    async with served([HELLO], faults=[Status(code=code)] * 2) as (model, server):
        with pytest.raises(ModelError) as caught:
            await collect(model)
    assert caught.value.status == code
    assert len(server.requests) == 1


async def test_a_wrong_key_is_refused_and_not_recorded() -> None:
    async with ModelServer([HELLO]) as server:
        model = OpenAIModel(base_url=server.base_url, api_key="wrong")
        with pytest.raises(ModelError, match="no valid token") as caught:
            await collect(model)
        await model.aclose()
    assert caught.value.status == 401
    assert server.requests == []


async def test_a_reset_before_the_answer_is_tried_again() -> None:
    async with served([HELLO], faults=[Reset()]) as (model, server):
        assert (await answered(model)).text == "Hello there."
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [Reset(), Stall(), Stall(after=0), Cut(after=0)])
@pytest.mark.rows("C42")
async def test_an_answer_that_never_comes_is_a_model_error_without_status(fault: Fault) -> None:
    async with served([HELLO], faults=[fault], timeout=0.2, max_retries=0) as (model, _):
        with pytest.raises(ModelError, match="API error") as caught:
            await collect(model)
    assert caught.value.status is None


async def test_no_server_at_all_is_a_model_error_that_says_why() -> None:
    async with ModelServer([HELLO]) as server:
        pass
    model = OpenAIModel(base_url=server.base_url, api_key="k", max_retries=0)
    with pytest.raises(ModelError, match="ConnectError"):
        await collect(model)
    await model.aclose()


@pytest.mark.parametrize(
    "fault", [Cut(after=300), Body(content=b""), Body(content=b"<html>", content_type="text/html")]
)
async def test_a_stream_that_breaks_before_its_first_text_is_begun_again(fault: Fault) -> None:
    async with served([ONE_CALL], faults=[fault]) as (model, server):
        response = await answered(model)
    assert [call.name for call in response.tool_calls] == ["bash"]
    assert response.usage == Usage(input_tokens=100, output_tokens=20)
    assert len(server.requests) == 2


async def test_a_web_page_instead_of_a_stream_is_told_by_its_type() -> None:
    page = Body(content=b"<html>", content_type="text/html")
    async with served([HELLO], faults=[page], max_retries=0) as (model, _):
        with pytest.raises(ModelError, match="text/html"):
            await collect(model)


async def test_a_stream_that_always_breaks_ends_as_a_model_error() -> None:
    async with served([ONE_CALL], faults=[Cut(after=300)] * 9, max_retries=1) as (model, server):
        with pytest.raises(ModelError, match="the stream broke"):
            await collect(model)
    assert len(server.requests) == 2


async def test_a_stream_that_breaks_after_its_first_text_is_not_begun_again() -> None:
    seen: list[ModelEvent] = []
    async with served([TWO_CALLS], faults=[Cut(after=600)]) as (model, server):
        with pytest.raises(ModelError, match="the stream broke"):
            async for event in model.stream(REQUEST):
                seen.append(event)  # noqa: PERF401 - what came before the error counts
    assert seen
    assert all(isinstance(event, TextDelta) for event in seen)
    assert len(server.requests) == 1


async def test_a_stream_that_stalls_is_given_up_after_the_timeout() -> None:
    async with served([HELLO], faults=[Stall(after=400)], timeout=0.2) as (model, server):
        with pytest.raises(ModelError, match="ReadTimeout"):
            await collect(model)
        await server.requests[0].left.wait()


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_in_the_stream_is_a_model_error(after: int) -> None:
    fault = StreamError(after=after, message="out of capacity")
    async with served([HELLO], faults=[fault]) as (model, server):
        with pytest.raises(ModelError, match="out of capacity"):
            await collect(model)
    assert len(server.requests) == 1


async def test_a_service_that_never_ends_the_body_does_not_hold_the_answer_back() -> None:
    everything = 1_000_000
    async with served([TWO_CALLS], faults=[Stall(after=everything)]) as (model, server):
        response = await answered(model)
        await server.requests[0].left.wait()
    assert len(response.tool_calls) == 2


async def test_an_event_that_is_too_long_is_a_model_error() -> None:
    body = Body(content=b"data: " + b"x" * (17 * 1024 * 1024))
    async with served([HELLO], faults=[body]) as (model, _):
        with pytest.raises(ModelError, match="more than 16777216 bytes"):
            await collect(model)


@pytest.mark.rows("C41")
async def test_a_cut_at_any_byte_never_gives_out_a_part_of_a_call() -> None:
    turn = {**ONE_CALL, "text": "Go on."}
    async with served([turn]) as (model, server):
        whole = await answered(model)
    length = len(await _recorded_stream(turn))
    faults = [Cut(after=after) for after in range(length)]
    async with served([turn], faults=faults, max_retries=0) as (model, server):
        for _ in faults:
            seen: list[ModelEvent] = []
            with pytest.raises(ModelError):
                async for event in model.stream(REQUEST):
                    seen.append(event)  # noqa: PERF401 - what came before the error counts
            text = "".join(event.text for event in seen)
            assert all(isinstance(event, TextDelta) for event in seen)
            assert "Go on.".startswith(text)
        assert await answered(model) == whole
    assert len(server.requests) == length + 1


@pytest.mark.rows("C41")
async def test_a_silent_cut_at_any_byte_never_gives_out_a_part_of_a_call() -> None:
    stream = await _recorded_stream(TWO_CALLS)
    whole = _read(stream)
    finished = stream.index(b'"finish_reason":"tool_calls"')
    for end in range(len(stream)):
        try:
            response = _read(stream[:end])
        except BrokenStream:
            assert end < stream.index(b"\n\n", finished) + 2
        else:
            assert response.tool_calls == whole.tool_calls
            assert response.usage in (Usage(), whole.usage)


def _read(stream: bytes) -> ModelResponse:
    builder = AnswerBuilder()
    for event in SSEParser().feed(stream):
        builder.add(event)
    return builder.response()


async def _recorded_stream(turn: dict[str, Any]) -> bytes:
    async with ModelServer([turn]) as server, _bare_client(server) as client:
        response = await client.chat.completions.with_raw_response.create(
            model="scripted",
            messages=[{"role": "user", "content": "Go."}],
            stream=True,
            stream_options={"include_usage": True},
        )
        return bytes(await response.http_response.aread())


def _bare_client(server: ModelServer) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)


async def test_leaving_the_stream_early_hangs_up_at_once() -> None:
    async with served([HELLO], faults=[Stall(after=400)]) as (model, server):
        async for _ in model.stream(REQUEST):
            break
        # The generator was dropped here without aclose(): the interpreter closes it.
        await server.requests[0].left.wait()


@pytest.mark.parametrize("fault", [Stall(), Stall(after=0), Stall(after=400), None])
async def test_cancelling_hangs_up_at_once(fault: Fault | None) -> None:
    delays = iter([3600.0 if fault is None else 0.0])
    turns = [lambda _: {**HELLO, "delay": next(delays, 0.0)}]
    async with served(turns, faults=[fault]) as (model, server):
        task = asyncio.create_task(collect(model))
        while not server.requests:
            await asyncio.wait([task], timeout=0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.requests[0].left.wait()
        assert (await answered(model)).text == "Hello there."


async def test_a_cancellation_at_any_moment_leaves_nothing_behind() -> None:
    before = _open_files()
    async with served([TWO_CALLS]) as (model, _):
        for steps in range(80):
            task = asyncio.create_task(collect(model))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert len((await answered(model)).tool_calls) == 2
    assert _open_files() == before


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_no_key_and_no_service_of_ones_own_names_the_variable_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAIModel()


def test_an_address_without_scheme_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="localhost:8000"):
        OpenAIModel(base_url="localhost:8000/v1")


async def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ModelServer([HELLO]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", f"{server.api_key}\n")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        model = OpenAIModel()
        assert (await answered(model)).text == "Hello there."
        await model.aclose()
        await model.aclose()


async def test_a_service_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with ModelServer([HELLO]) as server:
        model = OpenAIModel(base_url=server.base_url)
        with pytest.raises(ModelError, match="no valid token"):  # it got as far as the server
            await collect(model)
        await model.aclose()


async def test_the_server_satisfies_the_bare_client_streaming_and_not() -> None:
    messages = [{"role": "user", "content": "Go."}]
    async with ModelServer([TWO_CALLS]) as server, _bare_client(server) as client:
        whole = await client.chat.completions.create(model="m", messages=messages)
        names = [call.function.name for call in whole.choices[0].message.tool_calls]
        assert names == ["bash", "read"]
        assert whole.usage.total_tokens == 120
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I look."
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_script_that_ends_too_soon_fails_at_once() -> None:
    async with served([]) as (model, server):
        with pytest.raises(ModelError, match="the script has 0"):
            await collect(model)
    assert len(server.requests) == 1


async def test_a_scripted_error_is_the_services_error() -> None:
    turns = [{"error": "too long", "status": 400}]
    async with served(turns) as (model, _):
        with pytest.raises(ModelError, match=r"API error 400 .*too long"):
            await collect(model)
    async with served([{"error": "too long"}]) as (model, _):
        with pytest.raises(ModelError, match="too long"):
            await collect(model)
