"""The server: who gets in, what a request does, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import websockets
from pydantic import BaseModel

from paddock.errors import ConfigError
from paddock.runtime.remote.handler import AgentInvocation, HandlerThread, Sender
from paddock.runtime.remote.server import RuntimeServer
from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, Talker, command_request, invocation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.remote.conftest import Serve

SCHEMA = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}})


# ------------------------------------------------------------------------- who gets in


async def refused(url: str, **options: Any) -> int:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(url, **options)
    return int(caught.value.response.status_code)


async def refused_raw(port: int, header: bytes) -> int:
    """The status for a header that no library of clients sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        + header
        + b"\r\n\r\n"
    )
    status = int((await reader.readline()).split()[1])
    writer.close()
    await writer.wait_closed()
    return status


@pytest.mark.rows("U-30", "N-16")
async def test_only_who_has_the_token_gets_in(serve: Serve) -> None:
    async with serve() as server:
        bare = f"ws://127.0.0.1:{server.port}"
        assert server.token is not None
        assert len(server.token) > 30
        assert await refused(bare) == 401
        assert await refused(f"{bare}/?token=wrong") == 401
        assert await refused(f"{bare}/?token=%E9%ff") == 401
        assert await refused_raw(server.port, b"Authorization: Bearer \xff\xfe") == 401
        assert await refused(bare, additional_headers={"Authorization": "Bearer wrong"}) == 401
        async with Talker(f"{bare}/any/path?token={server.token}") as talker:
            assert (await talker.ask(invocation("ECHO:in")))["data"]["text"] == "in"
        given = {"Authorization": f"Bearer {server.token}"}
        async with Talker(bare, additional_headers=given) as talker:
            assert (await talker.ask(invocation("ECHO:in")))["data"]["text"] == "in"


@pytest.mark.rows("U-30", "N-16")
async def test_a_web_page_gets_in_only_if_it_is_allowed(serve: Serve) -> None:
    async with serve(allowed_origins=["https://mine.test"]) as server:
        assert await refused(server.url, origin="https://evil.test") == 403
        async with Talker(server.url, origin="https://mine.test") as talker:
            await talker.ask(invocation("ECHO:in"))


@pytest.mark.rows("U-30")
async def test_without_a_token_only_loopback_is_served(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        RuntimeServer(Lab(), host="0.0.0.0", token=False)
    async with serve(token=False) as server, Talker(server.url) as talker:
        assert "token" not in server.url
        await talker.ask(invocation("ECHO:in"))


@pytest.mark.rows("U-30")
async def test_the_token_is_not_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with serve() as server, Talker(server.url) as talker:
        await talker.ask(invocation("ECHO:in"))
        token = str(server.token)
    logged = [
        record for record in caplog.records if not record.name.startswith("websockets.client")
    ]
    assert logged
    assert token not in "".join(record.getMessage() for record in logged)


# ------------------------------------------------------------------- requests and their end


@pytest.mark.rows("U-18", "U-21")
async def test_each_connection_has_one_request_at_a_time(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server, Talker(server.url) as one, Talker(server.url) as other:
        await one.send(invocation("SLOW:1500"))
        await lab.started.wait()
        busy = await one.ask(invocation("ECHO:second"))
        assert busy["error"] == "Received request while another is in flight!"
        assert busy["metadata"]["code"] == "busy"
        assert busy["metadata"]["run_id"]
        assert (await other.ask(invocation("ECHO:here")))["data"]["text"] == "here"
        assert (await one.terminal(2))["data"]["text"] == "slow done"


@pytest.mark.rows("U-21")
async def test_a_client_that_negotiated_has_a_queue(serve: Serve) -> None:
    def request(number: int) -> dict[str, Any]:
        run_id = f"12345678-1234-1234-1234-{number:012x}"
        return invocation(f"ECHO:{number}", paddock={"v": 1, "run_id": run_id})

    async with serve() as server, Talker(server.url) as talker:
        for number in range(9):
            await talker.send(request(number))
        await talker.terminal(9)
        texts = [frame["data"]["text"] for frame in talker.of("result_message")]
        assert texts == [str(number) for number in range(9)]


@pytest.mark.rows("U-21", "N-17")
@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ("not json", "not JSON"),
        ("null", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('{"a": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"message_type": "\\ud800"}', "Unicode"),
        ('{"message_type": 5}', "message_type"),
        ('{"message_type": "invocation_message"}', "user_prompt"),
        (json.dumps(invocation("x", secrets_to_redact="abc")), "secrets_to_redact"),
        (json.dumps(invocation("x", agent_env={"A": []})), "agent_env.A"),
        (json.dumps(command_request({"cwd": "/"})), "commands.0.command"),
    ],
)
async def test_a_frame_that_is_no_message_is_told_and_the_connection_stays(
    frame: str, told: str, serve: Serve
) -> None:
    async with serve() as server, Talker(server.url) as talker:
        answer = await talker.ask(frame)
        assert answer["message_type"] == "error_message"
        assert told in answer["error"]
        assert "Traceback" not in json.dumps(talker.frames)
        assert "File " not in json.dumps(talker.frames)
        assert (await talker.ask(invocation("ECHO:on")))["data"]["text"] == "on"


@pytest.mark.rows("U-21", "U-24", "N-17")
async def test_an_unknown_message_is_told_only_while_nothing_runs(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server, Talker(server.url) as talker:
        answer = await talker.ask({"message_type": "ping_message"})
        assert answer["metadata"]["code"] == "unknown_message"
        await talker.send(invocation("SLOW:300"))
        await lab.started.wait()
        await talker.send({"message_type": "ping_message"})
        await talker.send({"message_type": "cancel_message_of_another_kind"})
        upload = {"filename": "x", "filepath": "/etc/hostname", "content_type": "t"}
        await talker.send(
            {
                "message_type": "artifact_upload_response_message",
                "presigned_url": "http://127.0.0.1:1/steal",
                **upload,
            }
        )
        assert (await talker.terminal(2))["data"]["text"] == "slow done"


async def test_a_binary_frame_is_read_too(serve: Serve) -> None:
    async with serve() as server, Talker(server.url) as talker:
        await talker.socket.send(json.dumps(invocation("ECHO:bytes")).encode())
        assert (await talker.terminal())["data"]["text"] == "bytes"


async def test_a_frame_that_is_too_large_closes_the_connection_alone(serve: Serve) -> None:
    async with serve() as server:
        socket = await websockets.connect(server.url, compression=None)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await socket.send("x" * (17 * 1024 * 1024))
            await asyncio.wait_for(socket.recv(), PATIENCE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        async with Talker(server.url) as talker:
            await talker.ask(invocation("ECHO:on"))


@pytest.mark.rows("U-32", "N-2")
@pytest.mark.parametrize(
    ("prompt", "wanted"), [("ERROR:first", "error"), ("ERROR_THEN_RESULT:x", "result")]
)
async def test_an_error_that_is_reported_is_no_second_end(
    prompt: str, wanted: str, serve: Serve
) -> None:
    async with serve() as server, Talker(server.url) as talker:
        first = await talker.ask(invocation(prompt))
        second = await talker.ask(invocation("ECHO:second"))
        assert second["data"]["text"] == "second"
        assert len(talker.of("error_message", "result_message")) == 2
    if wanted == "error":
        assert first["error"] == "first"
        assert first["metadata"]["source"] == "lab"
        assert first["metadata"]["error_name"] == "RuntimeError"
    else:
        assert first["data"]["text"] == "result after error"
        warned = {"error": "x", "metadata": {"source": "lab"}}
        assert first["metadata"]["warnings"] == [warned]


@pytest.mark.rows("U-32")
async def test_a_client_that_negotiated_hears_of_a_reported_error_at_once(serve: Serve) -> None:
    run_id = "12345678-1234-1234-1234-123456789abc"
    async with serve() as server, Talker(server.url) as talker:
        request = invocation("ERROR_THEN_RESULT:soft", paddock={"v": 1, "run_id": run_id})
        await talker.ask(request)
        kinds = [frame["message_type"] for frame in talker.frames]
        assert kinds == ["heartbeat_message", "warning_message", "result_message"]


@pytest.mark.rows("N-19")
async def test_the_end_of_a_session_ends_what_runs_first(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server, Talker(server.url) as talker:
        await talker.send(invocation("SLOW:60000"))
        await lab.started.wait()
        await talker.send({"message_type": "end_session_message"})
        assert await talker.until_closed() == 1000
        kinds = [frame["message_type"] for frame in talker.frames]
        assert kinds == ["error_message", "end_session_confirm_message"]
        assert talker.frames[0]["error"] == "Request cancelled"


@pytest.mark.rows("U-28")
@pytest.mark.parametrize(
    ("request_frame", "closes"),
    [
        ({"preferred_model": "m", "agent_env": None, "artifacts_dir": None}, True),
        ({"model": "m", "artifacts_dir": None}, True),
        ({"model": "m", "agent_env": None, "artifacts_dir": None}, True),
        ({"model": "m", "agent_env": None, "artifacts_dirs": None}, False),
    ],
)
async def test_a_connection_is_closed_for_those_who_wait_for_it(
    request_frame: dict[str, Any], closes: bool, serve: Serve
) -> None:
    common = {
        "message_type": "invocation_message",
        "system_prompt": "",
        "user_prompt": "ECHO:x",
    }
    async with serve() as server, Talker(server.url) as talker:
        await talker.ask(common | request_frame)
        if closes:
            assert await talker.until_closed() == 1000
        else:
            await talker.ask(common | request_frame)  # it is still there


@pytest.mark.rows("U-28")
async def test_a_connection_with_a_second_request_stays_open(serve: Serve) -> None:
    request = invocation("ECHO:x", artifacts_dir=None)
    del request["artifacts_dirs"]
    async with serve(settings=ServerSettings(linger=0.05)) as server, Talker(server.url) as talker:
        await talker.send(request)
        await talker.send(request)
        await talker.terminal(2)
        await asyncio.sleep(0.2)  # four times as long as it would linger
        await talker.ask(request)


@pytest.mark.rows("U-29", "N-9")
async def test_a_result_that_is_too_large_is_told_and_kept_in_a_file(serve: Serve) -> None:
    async with serve() as server, Talker(server.url) as talker:
        answer = await talker.ask(invocation("BIG:1100000"))
        assert answer["error"].endswith("bytes is larger than this client takes")
        with open(answer["metadata"]["path"]) as file:  # noqa: ASYNC230
            assert json.load(file)["data"]["text"] == "x" * 1_100_000
        run_id = "12345678-1234-1234-1234-123456789abc"
        more = {"v": 1, "run_id": run_id, "max_frame": 64 * 1024 * 1024}
        async with Talker(server.url, max_size=64 * 1024 * 1024) as ours:
            whole = await ours.ask(invocation("BIG:1100000", paddock=more))
            assert len(whole["data"]["text"]) == 1_100_000


@pytest.mark.rows("U-29")
async def test_old_clients_get_results_where_they_look_for_them(serve: Serve) -> None:
    old = {
        "message_type": "invocation_message",
        "system_prompt": "",
        "preferred_model": "m",
        "artifacts_dir": None,
    }
    async with serve() as server:
        async with Talker(server.url) as talker:
            text = await talker.ask({**old, "user_prompt": "ECHO:x"})
        async with Talker(server.url) as talker:
            new = await talker.ask(invocation('STRUCTURED:{"n": 1}'))
    assert text["structured_output"] == {"text": "x"}
    assert text["data"] == {"type": "text", "text": "x"}
    assert new["structured_output"] == {"n": 1}


# ------------------------------------------------------------------------------ handlers


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


# --------------------------------------------------------------------------------- the end


@pytest.mark.rows("U-18", "N-14")
async def test_a_server_that_stops_gives_its_runs_time(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab, ServerSettings(grace=PATIENCE)) as server:
        talker = Talker(server.url)
        async with talker:
            await talker.send(invocation("SLOW:300"))
            await lab.started.wait()
            await server.aclose()
            assert await talker.until_closed() == 1001
    assert talker.of("result_message")[0]["data"]["text"] == "slow done"


@pytest.mark.rows("U-18")
async def test_a_server_that_stops_takes_no_new_request(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab, ServerSettings(grace=PATIENCE)) as server, Talker(server.url) as one:
        async with Talker(server.url) as other:
            await one.send(invocation("SLOW:1000"))
            await lab.started.wait()
            closing = asyncio.create_task(server.aclose())
            await asyncio.sleep(0)
            answer = await other.ask(invocation("ECHO:x"))
            assert answer["metadata"]["code"] == "stopping"
            assert await other.until_closed() == 1008
        await closing
    assert one.of("result_message")


@pytest.mark.rows("U-20", "U-21")
async def test_heartbeats_come_while_a_request_runs_and_not_after(serve: Serve) -> None:
    settings = ServerSettings(heartbeat=0.05)
    async with serve(Lab(), settings) as server, Talker(server.url) as talker:
        await talker.send(invocation("SLOW:400"))
        await talker.terminal()
        beats = talker.of("heartbeat_message")
        assert beats
        assert all(beat["phase"] == "request_in_flight" for beat in beats)
        elapsed = [beat["elapsed_ms"] for beat in beats]
        assert elapsed == sorted(elapsed)
        assert all(isinstance(each, int) for each in elapsed)
        assert talker.frames[-1]["message_type"] == "result_message"
        await talker.ask(invocation("ECHO:x"))
        assert talker.frames[-2]["message_type"] == "result_message"


async def test_a_run_is_not_held_up_by_a_client_that_does_not_read(serve: Serve) -> None:
    """What it wrote waits for it, and the handler that awaits what it sends waits, too."""
    done = threading.Event()

    async def chatty(_: Any, sender: Any) -> str:
        for _ in range(200):
            sender.send_assistant_message(["x" * 10_000])
        done.set()
        return "done"

    async with serve(chatty) as server:
        socket = await websockets.connect(server.url, max_queue=1, compression=None)
        await socket.send(json.dumps(invocation("x")))
        assert await asyncio.to_thread(done.wait, PATIENCE)
        async with Talker(server.url) as talker:
            await talker.ask(invocation("x"))
        socket.transport.abort()
        await socket.wait_closed()


@pytest.mark.rows("U-20")
async def test_what_an_error_has_that_is_not_json_does_not_keep_the_end_back(serve: Serve) -> None:
    async def handler(_: Any, __: Any) -> Any:
        return {"a": object()}

    request = invocation("x", post_agent_invocation_commands=[{"command": "exit 1"}])
    async with serve(handler) as server, Talker(server.url) as talker:
        assert (await talker.ask(request))["error"] == "the runtime failed"


@pytest.mark.rows("U-21", "N-17")
async def test_no_order_of_frames_breaks_a_server(serve: Serve) -> None:
    chance = random.Random(17)
    run_id = "12345678-1234-1234-1234-123456789abc"
    ours = {"v": 1, "run_id": run_id, "max_frame": 5000}
    frames = [
        "nonsense",
        "{}",
        "\x00",
        json.dumps({"message_type": "cancel_message"}),
        json.dumps({"message_type": "end_session_message", "more": [1]}),
        json.dumps({"message_type": "ack_message", "run_id": run_id, "seq": 10**30}),
        json.dumps({"message_type": "ack_message", "run_id": run_id, "seq": -1}),
        json.dumps({"message_type": "attach_message", "run_id": "../../x", "after": -5}),
        json.dumps({"message_type": "attach_message", "run_id": run_id, "after": 2}),
        json.dumps(invocation("STREAM:3")),
        json.dumps(invocation("STREAM:3", paddock=ours)),
        json.dumps(invocation("SLOW:5", preferred_model="old")),
        json.dumps(invocation("BIG:9000", paddock=ours)),
        json.dumps(invocation("UNKNOWN:", agent_env={"A": "b"})),
        json.dumps(command_request("echo x", "exit 3")),
    ]
    async with serve() as server:
        for _ in range(60):
            socket = await websockets.connect(server.url, compression=None)
            with contextlib.suppress(websockets.ConnectionClosed):
                for _ in range(chance.randrange(1, 8)):
                    await socket.send(chance.choice(frames))
            if chance.random() < 0.5:
                socket.transport.abort()
            else:
                await socket.close()
            await socket.wait_closed()
        async with Talker(server.url) as talker:
            assert (await talker.ask(invocation("ECHO:on")))["data"]["text"] == "on"
