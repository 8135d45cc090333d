"""Every model's client against a real server on a real socket, through all that can go wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ModelError
from paddock.runtime.core.model import ReasoningDelta, TextDelta, Usage, UsageSoFar
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
from tests.e2e.anthropic_served import ANTHROPIC
from tests.e2e.models_openai_served import OPENAI, RESPONSES
from tests.e2e.models_served import HELLO, LONG, ONE_CALL, REQUEST, TWO_CALLS, answered, collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.models_served import Model, Service

pytestmark = pytest.mark.parametrize(
    "service", [OPENAI, RESPONSES, ANTHROPIC], ids=["openai", "responses", "anthropic"]
)

BEFORE_TEXT = 300  # bytes of a stream of any service
CUT_STEP = 5  # where a connection is cut anywhere; streams that just end are cut at every byte


@pytest.mark.rows("C42")
async def test_429_waits_as_long_as_the_service_asks(service: Service) -> None:
    faults = [Status(code=429, retry_after=0.1)] * 5
    async with service.served([HELLO], faults=faults) as (model, server):
        begin = time.monotonic()
        assert (await answered(model)).text == "Hello there."
        assert 0.5 <= time.monotonic() - begin < 10  # five waits unasked take more
    assert len(server.requests) == 6


@pytest.mark.parametrize("code", [408, 409, 429, 500, 502, 503, 529])
@pytest.mark.rows("C42")
async def test_a_passing_error_is_tried_again_and_usage_counts_once(
    service: Service, code: int
) -> None:
    faults = [Status(code=code, retry_after=0.01)] * 3
    async with service.served([HELLO], faults=faults) as (model, server):
        response = await answered(model)
    assert response.usage == Usage(input_tokens=10, output_tokens=3)
    assert len(server.requests) == 4
    assert all(request.body == server.requests[0].body for request in server.requests)


@pytest.mark.rows("C42", "S-11")
async def test_a_lasting_error_ends_as_a_model_error_with_its_status(service: Service) -> None:
    faults = [Status(code=529, retry_after=0.001, message="overloaded")] * 20
    async with service.served([HELLO], faults=faults) as (model, server):
        with pytest.raises(ModelError) as caught:
            await collect(model)
    assert caught.value.status == 529
    assert str(caught.value) == "API error 529 (after retries): overloaded"
    assert len(server.requests) == 9


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_an_error_that_would_come_again_is_not_tried_again(
    service: Service, code: int
) -> None:
    async with service.served([HELLO], faults=[Status(code=code)] * 2) as (model, server):
        with pytest.raises(ModelError) as caught:
            await collect(model)
    assert caught.value.status == code
    assert len(server.requests) == 1


async def test_a_wrong_key_is_refused_and_not_recorded(service: Service) -> None:
    async with ModelServer([HELLO]) as server:
        model = service.model(base_url=server.base_url, api_key="wrong")
        with pytest.raises(ModelError, match="no valid token") as caught:
            await collect(model)
        await model.aclose()
    assert caught.value.status == 401
    assert server.requests == []


async def test_a_reset_before_the_answer_is_tried_again(service: Service) -> None:
    async with service.served([HELLO], faults=[Reset()]) as (model, server):
        assert (await answered(model)).text == "Hello there."
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", [Reset(), Stall(), Stall(after=0), Cut(after=0)])
@pytest.mark.rows("C42")
async def test_an_answer_that_never_comes_is_a_model_error_without_status(
    service: Service, fault: Fault
) -> None:
    async with service.served([HELLO], faults=[fault], timeout=0.2, max_retries=0) as (model, _):
        with pytest.raises(ModelError, match="API error") as caught:
            await collect(model)
    assert caught.value.status is None


async def test_no_server_at_all_is_a_model_error_that_says_why(service: Service) -> None:
    async with ModelServer([HELLO]) as server:
        pass
    model = service.model(base_url=server.base_url, api_key="k", max_retries=0)
    with pytest.raises(ModelError, match="ConnectError"):
        await collect(model)
    await model.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        Cut(after=BEFORE_TEXT),
        Body(content=b""),
        Body(content=b"<html>", content_type="text/html"),
    ],
)
async def test_a_stream_that_breaks_before_its_first_text_is_begun_again(
    service: Service, fault: Fault
) -> None:
    async with service.served([ONE_CALL], faults=[fault]) as (model, server):
        response = await answered(model)
    assert [call.name for call in response.tool_calls] == ["bash"]
    assert response.usage == Usage(input_tokens=100, output_tokens=20)
    assert len(server.requests) == 2


async def test_a_web_page_instead_of_a_stream_is_told_by_its_type(service: Service) -> None:
    page = Body(content=b"<html>", content_type="text/html")
    async with service.served([HELLO], faults=[page], max_retries=0) as (model, _):
        with pytest.raises(ModelError, match="text/html"):
            await collect(model)


async def test_a_stream_that_always_breaks_ends_as_a_model_error(service: Service) -> None:
    faults = [Cut(after=BEFORE_TEXT)] * 9
    async with service.served([ONE_CALL], faults=faults, max_retries=1) as (model, server):
        with pytest.raises(ModelError, match="the stream broke"):
            await collect(model)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("turn", "breaks", "said"),
    [
        (LONG, lambda service: Cut(after=service.with_text), "the stream broke"),
        (TWO_CALLS, lambda service: Cut(after=service.among_calls), "the stream broke"),
        (LONG, lambda service: no_capacity(service.events_with_text), "no capacity"),
    ],
    ids=["cut in the text", "cut in the calls", "error"],
)
async def test_a_stream_that_breaks_after_its_first_text_is_not_begun_again(
    service: Service, turn: dict[str, Any], breaks: Callable[[Service], Fault], said: str
) -> None:
    async with service.served([turn], faults=[breaks(service)]) as (model, server):
        assert await _text_before_the_error(model, said)
    assert len(server.requests) == 1


def no_capacity(after: int) -> StreamError:
    return StreamError(after=after, message="no capacity")


async def _text_before_the_error(model: Model, said: str) -> str:
    """What a stream gives out before it fails: text and no more."""
    text = ""
    with pytest.raises(ModelError, match=said):
        async for event in model.stream(REQUEST):
            if isinstance(event, UsageSoFar):
                assert event.usage.input_tokens
                continue
            if not isinstance(event, ReasoningDelta):
                assert isinstance(event, TextDelta)
                text += event.text
    return text


async def test_a_stream_that_stalls_is_given_up_after_the_timeout(service: Service) -> None:
    faults = [Stall(after=service.with_text)]
    async with service.served([LONG], faults=faults, timeout=0.2) as (model, server):
        with pytest.raises(ModelError, match=r"timeout: the service sent nothing for 0\.2 s"):
            await collect(model)
        await server.requests[0].left.wait()


@pytest.mark.parametrize("has_begun", [False, True])
async def test_an_error_in_the_stream_that_would_come_again_is_a_model_error(
    service: Service, has_begun: bool
) -> None:
    after = service.events_with_text if has_begun else 0
    fault = StreamError(after=after, message="too long", kind="invalid_request_error")
    async with service.served([LONG], faults=[fault]) as (model, server):
        with pytest.raises(ModelError, match="too long"):
            await collect(model)
    assert len(server.requests) == 1


async def test_a_service_that_never_ends_the_body_does_not_hold_the_answer_back(
    service: Service,
) -> None:
    everything = 1_000_000
    async with service.served([TWO_CALLS], faults=[Stall(after=everything)]) as (model, server):
        response = await answered(model)
        await server.requests[0].left.wait()
    assert len(response.tool_calls) == 2


async def test_an_event_that_is_too_long_is_a_model_error(service: Service) -> None:
    body = Body(content=b"data: " + b"x" * (17 * 1024 * 1024))
    async with service.served([HELLO], faults=[body]) as (model, _):
        with pytest.raises(ModelError, match="more than 16777216 bytes"):
            await collect(model)


@pytest.mark.rows("C41")
async def test_a_connection_cut_anywhere_never_gives_out_a_part_of_a_call(service: Service) -> None:
    turn = {**ONE_CALL, "text": "Go on."}
    async with service.served([turn]) as (model, server):
        whole = await answered(model)
    length = len(await service.recorded_stream(turn))
    faults = [Cut(after=after) for after in range(0, length, CUT_STEP)]
    async with service.served([turn], faults=faults, max_retries=0) as (model, server):
        for _ in faults:
            assert "Go on.".startswith(await _text_before_the_error(model, "API error"))
        assert await answered(model) == whole
    assert len(server.requests) == len(faults) + 1
