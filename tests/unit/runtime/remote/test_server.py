"""The server: what a request does, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from typing import TYPE_CHECKING, Any

import pytest
import websockets

from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, Talker, command_request, invocation

if TYPE_CHECKING:
    from tests.unit.runtime.remote.conftest import Serve


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
        told = (await talker.ask(request))["error"]
        assert told.startswith("the result cannot be sent: it is not JSON")


@pytest.mark.rows("U-21", "N-17")
async def test_no_order_of_frames_breaks_a_server(serve: Serve) -> None:
    chance = random.Random(17)
    run_id = "12345678-1234-1234-1234-123456789abc"
    ours = {"v": 1, "run_id": run_id, "max_frame": 2**20}
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
        json.dumps(invocation("BIG:1100000", paddock=ours)),
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
