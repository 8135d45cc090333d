"""What every model's client says and hears, against a real server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ModelError
from paddock.runtime.core.model import ModelRequest, TextDelta, ToolCall, Usage, UsageSoFar
from paddock.testing.model_server import Fault, ModelServer, Stall
from tests.e2e.anthropic_served import ANTHROPIC
from tests.e2e.models_openai_served import OPENAI, RESPONSES
from tests.e2e.models_served import (
    HELLO,
    LONG,
    REQUEST,
    TWO_CALLS,
    answered,
    collect,
    forget_accounts,
)

if TYPE_CHECKING:
    from tests.e2e.models_served import Service

pytestmark = pytest.mark.parametrize(
    "service", [OPENAI, RESPONSES, ANTHROPIC], ids=["openai", "responses", "anthropic"]
)


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_accounts(monkeypatch, tmp_path)


async def test_text_streams_and_the_whole_answer_comes_last(service: Service) -> None:
    async with service.served([HELLO]) as (model, _):
        response = await answered(model)
    assert response.text == "Hello there."
    assert response.usage == Usage(input_tokens=10, output_tokens=3)
    assert response.finish_reason == "stop"


async def test_text_is_given_out_while_the_service_still_holds_the_rest(service: Service) -> None:
    async with service.served([LONG], faults=[Stall(after=service.with_text)]) as (model, server):
        async with aclosing(model.stream(REQUEST)) as events:
            first = await anext(events)
            while isinstance(first, UsageSoFar):
                first = await anext(events)
            assert isinstance(first, TextDelta)
            assert LONG["text"].startswith(first.text)
            assert first.text != LONG["text"]
            assert not server.requests[0].left.is_set()
        await server.requests[0].left.wait()


async def test_parallel_tool_calls_in_pieces_come_out_whole_and_in_order(service: Service) -> None:
    async with service.served([TWO_CALLS]) as (model, _):
        response = await answered(model)
    assert response.tool_calls == (
        ToolCall(id="call_1_1", name="bash", arguments='{"command": "python -m pytest -q"}'),
        ToolCall(id="call_1_2", name="read", arguments='{"path": "src/\\u00e9t\\u00e9.py"}'),
    )
    assert response.finish_reason == "tool_calls"
    assert response.usage == Usage(
        input_tokens=100,
        output_tokens=20,
        cached_tokens=64,
        cache_write_tokens=16 if service.counts_cache_writes else 0,
        reasoning_tokens=7,
    )


async def test_malformed_arguments_and_unknown_tools_pass_through_as_sent(service: Service) -> None:
    turn = {"tool_calls": [{"name": "no_such_tool", "arguments": '{"command": '}]}
    async with service.served([turn]) as (model, _):
        response = await answered(model)
    (call,) = response.tool_calls
    assert (call.name, call.arguments) == ("no_such_tool", '{"command": ')


async def test_turns_share_one_connection(service: Service) -> None:
    async with service.served([HELLO]) as (model, server):
        for _ in range(5):
            await collect(model)
    assert len({request.client for request in server.requests}) == 1


async def test_many_conversations_at_once_get_each_their_own_answer(service: Service) -> None:
    def echo(request: ModelRequest) -> dict[str, Any]:
        return {"text": request.messages[0]["content"]}

    async with service.served([echo]) as (model, _):
        requests = [
            ModelRequest(model="m", messages=[{"role": "user", "content": f"number {n}"}])
            for n in range(50)
        ]
        answers = await asyncio.gather(*(answered(model, request) for request in requests))
    assert [answer.text for answer in answers] == [f"number {n}" for n in range(50)]


async def test_leaving_the_stream_early_hangs_up_at_once(service: Service) -> None:
    async with service.served([LONG], faults=[Stall(after=service.with_text)]) as (model, server):
        async for _ in model.stream(REQUEST):
            break
        # The generator was dropped here without aclose(): the interpreter closes it.
        await server.requests[0].left.wait()


@pytest.mark.parametrize("stalls", ["before", "at the beginning", "in the text", "never"])
async def test_cancelling_hangs_up_at_once(service: Service, stalls: str) -> None:
    faults: dict[str, Fault] = {
        "before": Stall(),
        "at the beginning": Stall(after=0),
        "in the text": Stall(after=service.with_text),
    }
    fault = faults.get(stalls)
    delays = iter([3600.0 if fault is None else 0.0])
    turns = [lambda _: {**LONG, "delay": next(delays, 0.0)}]
    async with service.served(turns, faults=[fault]) as (model, server):
        task = asyncio.create_task(collect(model))
        while not server.requests:
            await asyncio.wait([task], timeout=0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.requests[0].left.wait()
        assert (await answered(model)).text == LONG["text"]


async def test_a_cancellation_at_any_moment_leaves_nothing_behind(service: Service) -> None:
    before = _open_sockets()
    async with service.served([TWO_CALLS]) as (model, _):
        for steps in range(80):
            task = asyncio.create_task(collect(model))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert len((await answered(model)).tool_calls) == 2
    assert _open_sockets() == before


def _open_sockets() -> int:
    """Not files: a thread whose caller was cancelled may be reading certificates still."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            count += link.readlink().name.startswith("socket:")
    return count


def test_no_key_and_no_service_of_ones_own_names_the_variable_to_set(service: Service) -> None:
    with pytest.raises(ConfigError, match=f"{service.variables}_API_KEY"):
        service.model()


def test_an_address_without_scheme_is_refused_at_once(service: Service) -> None:
    with pytest.raises(ConfigError, match="localhost:8000"):
        service.model(base_url="localhost:8000/v1")


async def test_key_and_address_come_from_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ModelServer([HELLO]) as server:
        monkeypatch.setenv(f"{service.variables}_API_KEY", f"{server.api_key}\n")
        monkeypatch.setenv(f"{service.variables}_BASE_URL", server.base_url)
        model = service.model()
        assert (await answered(model)).text == "Hello there."
        await model.aclose()
        await model.aclose()


async def test_a_service_of_ones_own_needs_no_key(service: Service) -> None:
    async with ModelServer([HELLO]) as server:
        model = service.model(base_url=server.base_url)
        with pytest.raises(ModelError, match="no valid token"):  # it got as far as the server
            await collect(model)
        await model.aclose()


async def test_a_script_that_ends_too_soon_fails_at_once(service: Service) -> None:
    async with service.served([]) as (model, server):
        with pytest.raises(ModelError, match="the script has 0"):
            await collect(model)
    assert len(server.requests) == 1


async def test_a_scripted_error_is_the_services_error(service: Service) -> None:
    turns = [{"error": "too long", "status": 400}]
    async with service.served(turns) as (model, _):
        with pytest.raises(ModelError, match=r"API error 400 .*too long"):
            await collect(model)
    async with service.served([{"error": "too long"}]) as (model, _):
        with pytest.raises(ModelError, match="too long"):
            await collect(model)
