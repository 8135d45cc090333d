"""The documented streams, compared whole."""

from __future__ import annotations

from typing import Any

import pytest

from paddock import create_runtime
from paddock.runtime.orchestration.define import define_runtime, define_specialist, define_tenant
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PROVIDERS,
    assert_streamed,
    call,
    echo_tool,
    read,
    results,
    script,
    team,
)


@pytest.mark.rows("F-21")
async def test_a_mock_answers_each_prompt() -> None:
    runtime = create_runtime(team(), testing={"mock_response": "hello from the mock"})
    assert_streamed(await read(runtime.query("Say hello.", thread_id="thread-1")), "mar_01_testing")


@pytest.mark.rows("F-21")
async def test_noop_calls_no_model() -> None:
    runtime = create_runtime(team())
    assert_streamed(await read(runtime.query("Say hello.", thread_id="thread-1")), "mar_02_noop")


@pytest.mark.rows("F-19", "F-21")
async def test_a_specialist_is_run_without_the_coordinator() -> None:
    runtime = create_runtime(team(echo_tool()), interpreter="scripted")
    stream = runtime.run_specialist("worker", script(call("echo", value="hello")), "thread-1")
    assert_streamed(await read(stream), "mar_03_scripted_specialist_tool")


@pytest.mark.rows("F-18")
async def test_without_a_coordinator_a_query_is_one_error() -> None:
    worker = define_specialist("worker", model=MODEL, prompt="Work.")
    spec = define_runtime(define_tenant("acme", "v1"), agents=[worker], providers=PROVIDERS)
    stream = create_runtime(spec).query("Say hello.", thread_id="thread-1")
    assert_streamed(await read(stream), "mar_10_no_coordinator")


@pytest.mark.rows("F-17")
async def test_what_a_tool_raises_is_its_result() -> None:
    def fail(args: dict[str, Any], ctx: Any) -> None:
        raise LookupError("the shelf is empty")

    runtime = create_runtime(team(echo_tool().bind(fail)), interpreter="scripted")
    stream = runtime.run_specialist("worker", script(call("echo", value="hello")), "thread-1")
    events = await read(stream)
    assert_streamed(events, "mar_11_tool_raises")
    assert "the shelf is empty" in results(events)[0]["error"]
