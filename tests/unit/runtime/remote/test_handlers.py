"""Handlers: threads of their own, what they return and raise, and those that do not end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import select
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from paddock.runtime.remote.handler import AgentInvocation, HandlerThread, Sender
from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, Talker, invocation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.remote.conftest import Serve

SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}})


@pytest.mark.rows("U-19", "N-13")
async def test_a_handler_that_blocks_blocks_nobody(serve: Serve) -> None:
    released, blocked = threading.Event(), asyncio.Event()
    home = asyncio.get_running_loop()

    class Blocking(Lab):
        async def block(self, *_: Any) -> str:
            home.call_soon_threadsafe(blocked.set)
            released.wait(PATIENCE)
            return "released"

    async with serve(Blocking()) as server, Talker(server.url) as one, Talker(server.url) as other:
        await one.send(invocation("BLOCK:"))
        await blocked.wait()
        pong = await one.socket.ping()
        await asyncio.wait_for(pong, PATIENCE)
        assert (await other.ask(invocation("ECHO:here")))["data"]["text"] == "here"
        released.set()
        assert (await one.terminal())["data"]["text"] == "released"


@pytest.mark.rows("U-19", "N-20")
async def test_a_handler_that_ignores_its_cancellation_is_left_behind(serve: Serve) -> None:
    released, started = threading.Event(), asyncio.Event()
    home = asyncio.get_running_loop()

    def deaf(_: Any, sender: Any) -> str:
        home.call_soon_threadsafe(started.set)
        released.wait(PATIENCE)
        sender.send_assistant_message(["too late"])
        return "too late"

    settings = ServerSettings(handler_grace=0.1)
    async with serve(deaf, settings) as server, Talker(server.url) as talker:
        await talker.send(invocation("x"))
        await started.wait()
        ended = await talker.ask({"message_type": "cancel_message"})
        assert ended["error"] == "Request cancelled"
        released.set()
        assert not talker.of("assistant_message")


@pytest.mark.rows("U-19", "N-20")
@pytest.mark.parametrize("is_blocked", [True, False])
async def test_what_runs_in_the_sandbox_of_a_handler_that_is_left_behind_ends(
    is_blocked: bool, serve: Serve, tmp_path: Path
) -> None:
    """Whether its event loop is blocked, or it is a coroutine that will not be cancelled."""
    released, started = threading.Event(), asyncio.Event()
    home = asyncio.get_running_loop()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    async def deaf(invocation: Any, _: Any) -> str:
        await invocation.sandbox.start(["sh", "-c", f"exec 9>{pipe}; sleep 600"])
        await invocation.sandbox.exec(f"exec 9>{pipe}; setsid sleep 600 >/dev/null 2>&1 &")
        home.call_soon_threadsafe(started.set)
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                if is_blocked:
                    released.wait(PATIENCE)
                else:
                    await asyncio.sleep(0.01)
        return "too late"

    settings = ServerSettings(handler_grace=0.1)
    async with serve(deaf, settings) as server, Talker(server.url) as talker:
        await talker.send(invocation("x"))
        await started.wait()
        await talker.ask({"message_type": "cancel_message"})
        ended, _, _ = await asyncio.to_thread(select.select, [reader], [], [], PATIENCE)
        assert ended, "something holds the pipe"
        released.set()
    os.close(reader)


@pytest.mark.rows("U-19", "N-20")
async def test_what_a_handler_raises_that_was_left_behind_is_not_reported() -> None:
    released, started, reported = threading.Event(), asyncio.Event(), list[Any]()
    home = asyncio.get_running_loop()
    home.set_exception_handler(lambda _, context: reported.append(context))
    threads: list[threading.Thread] = []

    def deaf(_: Any, __: Any) -> str:
        threads.append(threading.current_thread())
        home.call_soon_threadsafe(started.set)
        released.wait(PATIENCE)
        raise ValueError("too late")

    asked = AgentInvocation(system_prompt="", user_prompt="", model="")
    sender = Sender(lambda *_: None, lambda: 0)
    left = HandlerThread(deaf, asked, sender, uses_sandbox=False)
    running = asyncio.create_task(left.run(0.0))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    released.set()
    await asyncio.to_thread(threads[0].join, PATIENCE)
    await asyncio.sleep(0)
    del left, running
    gc.collect()
    assert not reported


@pytest.mark.rows("U-19")
async def test_a_handler_that_blocks_can_ask_whether_it_is_cancelled(serve: Serve) -> None:
    started, asked = asyncio.Event(), threading.Event()
    home = asyncio.get_running_loop()

    def blocking(invocation: Any, _: Any) -> str:
        home.call_soon_threadsafe(started.set)
        while not invocation.cancelled.is_set():
            time.sleep(0.01)
        asked.set()
        return ""

    async with serve(blocking) as server, Talker(server.url) as talker:
        await talker.send(invocation("x"))
        await started.wait()
        await talker.ask({"message_type": "cancel_message"})
        assert await asyncio.to_thread(asked.wait, PATIENCE)


@pytest.mark.rows("U-19")
async def test_a_cancelled_handler_is_told(serve: Serve) -> None:
    started, cancelled = asyncio.Event(), threading.Event()
    home = asyncio.get_running_loop()

    async def handler(invocation: Any, _: Any) -> str:
        home.call_soon_threadsafe(started.set)
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            if invocation.cancelled.is_set():
                cancelled.set()
            raise
        return ""

    async with serve(handler) as server, Talker(server.url) as talker:
        await talker.send(invocation("x"))
        await started.wait()
        await talker.ask({"message_type": "cancel_message"})
        assert await asyncio.to_thread(cancelled.wait, PATIENCE)


class Answer(BaseModel):
    n: int


@pytest.mark.rows("U-19")
@pytest.mark.parametrize(
    ("returned", "wanted"),
    [
        ("text", {"type": "text", "text": "text"}),
        ({"n": 1}, {"type": "structured_output", "structured_output": {"n": 1}}),
        (Answer(n=2), {"type": "structured_output", "structured_output": {"n": 2}}),
        ({"type": "text", "text": "t", "metadata": {"a": 1}}, {"type": "text", "text": "t"}),
    ],
)
async def test_a_handler_may_return_what_suits_it(
    returned: Any, wanted: dict[str, Any], serve: Serve
) -> None:
    def plain(_: Any, __: Any) -> Any:
        return returned

    async with serve(plain) as server, Talker(server.url) as talker:
        assert (await talker.ask(invocation("x")))["data"] == wanted


@pytest.mark.rows("U-19")
@pytest.mark.parametrize(
    "returned", [None, 5, {"type": "text"}, {"a": object()}, {"a": float("nan")}]
)
async def test_what_is_no_result_is_an_error(returned: Any, serve: Serve) -> None:
    async def handler(_: Any, __: Any) -> Any:
        return returned

    async with serve(handler) as server, Talker(server.url) as talker:
        answer = await talker.ask(invocation("x"))
        assert answer["message_type"] == "error_message"
        assert (await talker.ask(invocation("x")))["message_type"] == "error_message"


@pytest.mark.rows("U-19")
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), StopAsyncIteration()]
)
async def test_no_error_of_a_handler_ends_the_server(error: BaseException, serve: Serve) -> None:
    def handler(invocation: Any, _: Any) -> str:
        if invocation.user_prompt == "raise":
            raise error
        return "on"

    async with serve(handler) as server, Talker(server.url) as talker:
        assert (await talker.ask(invocation("raise")))["message_type"] == "error_message"
        assert (await talker.ask(invocation("x")))["data"]["text"] == "on"


@pytest.mark.rows("U-19")
async def test_a_handler_has_a_sandbox_that_is_this_container(serve: Serve, tmp_path: Path) -> None:
    async def handler(invocation: Any, _: Any) -> str:
        result = await invocation.sandbox.exec("pwd; echo $MINE; echo $PADDOCK_TOKEN")
        return str(result.stdout)

    async with serve(handler) as server, Talker(server.url) as talker:
        answer = await talker.ask(invocation("x", agent_env={"MINE": "yes"}))
        assert answer["data"]["text"] == f"{tmp_path}/work\nyes\n\n"


@pytest.mark.rows("U-19", "N-15")
@pytest.mark.parametrize(
    "given", [SCHEMA, json.dumps({"type": "json_schema", "schema": json.loads(SCHEMA)})]
)
async def test_a_result_has_to_fit_the_schema(given: str, serve: Serve) -> None:
    async with serve() as server, Talker(server.url) as talker:
        wants = {"output_format_json_schema_str": given}
        good = await talker.ask(invocation('STRUCTURED:{"n": 1}', **wants))
        assert good["data"]["structured_output"] == {"n": 1}
        bad = await talker.ask(invocation('STRUCTURED:{"n": "x"}', **wants))
        assert "structured output does not match the schema: $.n" in bad["error"]
        text = await talker.ask(invocation("ECHO:no object", **wants))
        assert "structured output does not match the schema" in text["error"]
        as_json = await talker.ask(invocation('ECHO:{"n": 5}', **wants))
        assert as_json["data"]["structured_output"] == {"n": 5}


@pytest.mark.rows("U-7", "U-21")
@pytest.mark.parametrize("given", ["{bad", "[]", '{"type": 5}', '{"type": "json_schema"}'])
async def test_a_bad_schema_is_told_before_anything_runs(given: str, serve: Serve) -> None:
    async with serve() as server, Talker(server.url) as talker:
        request = invocation("ECHO:x", output_format_json_schema_str=given)
        request["pre_agent_invocation_commands"] = [{"command": "echo ran"}]
        answer = await talker.ask(request)
        assert "output_format_json_schema_str" in answer["error"]
        assert not talker.output()
