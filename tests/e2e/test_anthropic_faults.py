"""Anthropic's model against a real server on a real socket, through all that can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from paddock.errors import ModelError
from paddock.runtime.models.anthropic import AnthropicModel
from paddock.runtime.models.base import ModelEvent, TextDelta, Usage
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
from tests.e2e.anthropic_served import (
    HELLO,
    ONE_CALL,
    REQUEST,
    TWO_CALLS,
    WITH_TEXT,
    answered,
    collect,
    recorded_stream,
    served,
)

STEP = 5  # bytes from cut to cut on a socket; the unit tests cut at every one
BEFORE_TEXT = 300  # bytes of a stream that are sent before its first text


@pytest.mark.rows("C42")
async def test_429_waits_as_long_as_the_service_asks() -> None:
    asked = 0.7  # seconds, more than it waits unasked
    async with served([HELLO], faults=[Status(code=429, retry_after=asked)]) as (model, server):
        begin = time.monotonic()
        assert (await answered(model)).text == "Hello there."
        assert time.monotonic() - begin >= asked
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
        model = AnthropicModel(base_url=server.base_url, api_key="wrong")
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
    model = AnthropicModel(base_url=server.base_url, api_key="k", max_retries=0)
    with pytest.raises(ModelError, match="ConnectError"):
        await collect(model)
    await model.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        StreamError(after=2),
        StreamError(after=2, kind="api_error"),
        Cut(after=BEFORE_TEXT),
        Body(content=b""),
        Body(content=b"<html>", content_type="text/html"),
    ],
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
    async with served([ONE_CALL], faults=[Cut(after=BEFORE_TEXT)] * 9, max_retries=1) as (
        model,
        server,
    ):
        with pytest.raises(ModelError, match="the stream broke"):
            await collect(model)
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [Cut(after=WITH_TEXT), StreamError(after=4)])
async def test_a_stream_that_breaks_after_its_first_text_is_not_begun_again(
    fault: Fault,
) -> None:
    seen: list[ModelEvent] = []
    async with served([HELLO], faults=[fault]) as (model, server):
        with pytest.raises(ModelError, match="API error"):
            async for event in model.stream(REQUEST):
                seen.append(event)  # noqa: PERF401 - what came before the error counts
    assert seen
    assert all(isinstance(event, TextDelta) for event in seen)
    assert len(server.requests) == 1


async def test_a_stream_that_stalls_is_given_up_after_the_timeout() -> None:
    async with served([HELLO], faults=[Stall(after=WITH_TEXT)], timeout=0.2) as (model, server):
        with pytest.raises(ModelError, match="ReadTimeout"):
            await collect(model)
        await server.requests[0].left.wait()


@pytest.mark.parametrize("after", [0, 4])
async def test_an_error_in_the_stream_that_would_come_again_is_a_model_error(after: int) -> None:
    fault = StreamError(after=after, message="too long", kind="invalid_request_error")
    async with served([HELLO], faults=[fault]) as (model, server):
        with pytest.raises(ModelError, match="too long"):
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
async def test_a_connection_cut_anywhere_never_gives_out_a_part_of_a_call() -> None:
    turn = {**ONE_CALL, "text": "Go on."}
    async with served([turn]) as (model, server):
        whole = await answered(model)
    length = len(await recorded_stream(turn))
    faults = [Cut(after=after) for after in range(0, length, STEP)]
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
    assert len(server.requests) == len(faults) + 1


async def test_leaving_the_stream_early_hangs_up_at_once() -> None:
    async with served([HELLO], faults=[Stall(after=WITH_TEXT)]) as (model, server):
        async for _ in model.stream(REQUEST):
            break
        # The generator was dropped here without aclose(): the interpreter closes it.
        await server.requests[0].left.wait()


@pytest.mark.parametrize("fault", [Stall(), Stall(after=0), Stall(after=WITH_TEXT), None])
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
