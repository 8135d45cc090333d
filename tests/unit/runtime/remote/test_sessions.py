"""Calls of a session, what aborts them, and what they leave for the next one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote import calls
from paddock.runtime.remote.client import RuntimeUseClient
from paddock.runtime.remote.messages import (
    CommandInterface,
    TextResult,
)
from paddock.runtime.remote.options import (
    AgentRuntimeError,
    CancelledException,
    ExecuteCommandsOptions,
)
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, options, stranger

if TYPE_CHECKING:
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

    from tests.unit.runtime.remote.conftest import Serve


@pytest.mark.rows("U-13", "U-14", "U-15", "N-3")
async def test_no_call_of_a_session_gets_what_another_one_left(serve: Serve) -> None:
    async def hang(_: Any) -> None:
        await asyncio.Event().wait()

    async def fail(_: Any) -> None:
        raise KeyError("mine")

    lab = Lab()
    async with serve(lab) as server, RuntimeUseClient(server.url).session() as session:
        with pytest.raises(TimeoutError):
            await session.query("SLOW:600000", options(timeout=0.1))
        with pytest.raises(AgentRuntimeError, match="No message received"):
            await session.query("SLOW:600000", options(idle_timeout=0.1))
        with pytest.raises(AgentRuntimeError, match="on_assistant_message callback timed out"):
            await session.query(
                "SAY_AND_WAIT:600000",
                options(on_assistant_message=hang, assistant_callback_timeout=0.1),
            )
        with pytest.raises(KeyError, match="mine"):
            await session.query("SAY_AND_WAIT:600000", options(on_assistant_message=fail))
        lab.started.clear()
        calling = asyncio.create_task(session.query("SLOW:600000", options()))
        await lab.started.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        lab.started.clear()
        calling = asyncio.create_task(session.query("SLOW:600000", options()))
        await lab.started.wait()
        session.abort()
        with pytest.raises(CancelledException, match="Query was cancelled"):
            await calling
        assert (await session.query("ECHO:mine", options())).data == TextResult(text="mine")


@pytest.mark.rows("U-13")
async def test_calls_of_a_session_wait_for_each_other(serve: Serve) -> None:
    async with serve() as server, RuntimeUseClient(server.url).session() as session:
        results = await asyncio.gather(
            session.query("SLOW:100", options()),
            session.query("ECHO:two", options()),
            session.execute_commands(
                [CommandInterface(command="echo 3")], ExecuteCommandsOptions()
            ),
        )
    assert [results[0].data, results[1].data] == [
        TextResult(text="slow done"),
        TextResult(text="two"),
    ]
    assert results[2].results[0].stdout == "3\n"


@pytest.mark.rows("U-14")
async def test_an_abort_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's connection is opened again for the next call."""
    connections = 0

    async def talk(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        async for text in socket:
            frame = json.loads(text)
            if frame.get("user_prompt") == "answer":
                data = {"type": "text", "text": "answered"}
                await socket.send(json.dumps({"message_type": "result_message", "data": data}))
            elif frame["message_type"] == "end_session_message":
                confirm = {"message_type": "end_session_confirm_message"}
                await socket.send(json.dumps(confirm))
            else:
                started.set()

    started = asyncio.Event()
    monkeypatch.setattr(calls, "DRAIN_TIMEOUT", 0.1)
    async with stranger(talk) as url, RuntimeUseClient(url).session() as session:
        calling = asyncio.create_task(session.query("x", options()))
        await started.wait()
        session.abort()
        with pytest.raises(CancelledException):
            async with asyncio.timeout(PATIENCE):
                await calling
        answered = await session.query("answer", options())
        assert answered.data == TextResult(text="answered")
    assert connections == 2


@pytest.mark.rows("N-21")
async def test_abort_reaches_every_call_or_the_one_that_is_named(serve: Serve) -> None:
    async with serve() as server:
        client = RuntimeUseClient(server.url)
        said = [asyncio.Event(), asyncio.Event(), asyncio.Event()]

        def call(number: int) -> asyncio.Task[Any]:
            async def on_assistant(_: Any) -> None:
                said[number].set()

            return asyncio.create_task(
                client.query("SAY_AND_WAIT:600000", options(on_assistant_message=on_assistant))
            )

        calling = [call(number) for number in range(3)]
        for each in said:
            await each.wait()
        client.abort(calling[1])
        with pytest.raises(CancelledException):
            await calling[1]
        assert not calling[0].done()
        client.abort()
        for each_call in (calling[0], calling[2]):
            with pytest.raises(CancelledException):
                await each_call


@pytest.mark.rows("U-15")
async def test_a_callback_for_artifacts_that_hangs_or_fails_is_told(
    serve: Serve, tmp_path: Path
) -> None:
    folder = str(tmp_path / "art")

    async def hang(_: Any) -> Any:
        await asyncio.Event().wait()

    async def fail(_: Any) -> Any:
        raise KeyError("mine")

    async with serve() as server, RuntimeUseClient(server.url).session() as session:
        with pytest.raises(AgentRuntimeError) as caught:
            await session.query(
                f"WRITE:{folder}/a|x|0",
                options(
                    artifacts_dirs=[folder],
                    on_artifact_upload_request=hang,
                    artifact_upload_callback_timeout=0.1,
                ),
            )
        assert caught.value.metadata == {
            "timeout_type": "artifact_upload_callback_timeout",
            "timeout": 0.1,
            "filename": "a",
            "filepath": f"{folder}/a",
        }
        with pytest.raises(KeyError):
            await session.query(
                f"WRITE:{folder}/b|x|0",
                options(artifacts_dirs=[folder], on_artifact_upload_request=fail),
            )
        assert (await session.query("ECHO:on", options())).data == TextResult(text="on")


@pytest.mark.rows("U-13", "N-21")
async def test_an_abort_ends_the_calls_that_wait_for_their_turn(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server, RuntimeUseClient(server.url).session() as session:
        first = asyncio.create_task(session.query("SLOW:600000", options()))
        await lab.started.wait()
        waiting = [asyncio.create_task(session.query("ECHO:x", options())) for _ in range(3)]
        await asyncio.sleep(0)
        session.abort(waiting[0])
        with pytest.raises(CancelledException, match="Query was cancelled"):
            await waiting[0]
        assert not first.done()
        session.abort()
        for each in (first, *waiting[1:]):
            with pytest.raises(CancelledException, match="Query was cancelled"):
                await each
        assert (await session.query("ECHO:mine", options())).data == TextResult(text="mine")


@pytest.mark.rows("U-13")
async def test_a_call_that_is_cancelled_while_it_waits_leaves_its_turn(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server, RuntimeUseClient(server.url).session() as session:
        first = asyncio.create_task(session.query("SLOW:100", options()))
        await lab.started.wait()
        waiting = asyncio.create_task(session.query("ECHO:x", options()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await first).data == TextResult(text="slow done")
        assert (await session.query("ECHO:mine", options())).data == TextResult(text="mine")


@pytest.mark.rows("U-13", "U-14")
async def test_leaving_a_session_ends_its_calls_and_keeps_the_error(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server:
        with pytest.raises(ZeroDivisionError):
            async with RuntimeUseClient(server.url).session() as session:
                first = asyncio.create_task(session.query("SLOW:600000", options()))
                await lab.started.wait()
                waiting = asyncio.create_task(session.query("ECHO:x", options()))
                await asyncio.sleep(0)
                raise ZeroDivisionError
        for each in (first, waiting):
            with pytest.raises(CancelledException, match="Query was cancelled"):
                await each
