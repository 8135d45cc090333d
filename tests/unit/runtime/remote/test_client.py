"""The client: its two surfaces, its errors, and what it leaves behind on a connection."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets

from paddock.errors import ConfigError
from paddock.runtime.remote import reading
from paddock.runtime.remote.client import RuntimeUseClient
from paddock.runtime.remote.messages import (
    ArtifactUploadResult,
    InvocationMessage,
    ResultMessageInterface,
    StructuredOutputResult,
    TextResult,
)
from paddock.runtime.remote.options import (
    AgentRuntimeError,
    CancelledException,
    ExecuteCommandsOptions,
    QueryOptions,
)
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, options, stranger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from paddock.runtime.remote.messages import (
        ArtifactUploadRequestMessageInterface,
        AssistantMessageInterface,
        ErrorMessageInterface,
    )
    from tests.unit.runtime.remote.conftest import Serve
    from tests.unit.runtime.remote.store import Store


def asks(prompt: str, **more: Any) -> InvocationMessage:
    """As the document does."""
    return InvocationMessage(
        message_type="invocation_message",
        source_id="my-run-001",
        model="gpt-4.1",
        system_prompt="You are a helpful assistant.",
        user_prompt=prompt,
        **more,
    )


async def ignore(_: Any) -> None:
    """A callback."""


# ------------------------------------------------------------------- the document's surface


@pytest.mark.rows("U-1")
def test_a_client_needs_a_url_or_a_transport() -> None:
    with pytest.raises(ValueError, match="Either ws_url or transport must be provided"):
        RuntimeUseClient()


@pytest.mark.rows("U-1", "U-16")
async def test_a_transport_takes_precedence() -> None:
    async def transport(
        send_queue: asyncio.Queue[dict[str, Any]],
    ) -> AsyncGenerator[dict[str, Any]]:
        request = await send_queue.get()
        yield {"message_type": "assistant_message", "text_blocks": ["hi"]}
        text = {"type": "text", "text": request["user_prompt"]}
        yield {"message_type": "result_message", "data": text}

    client = RuntimeUseClient("ws://127.0.0.1:1", transport)
    assert (await client.query("mine", options())).data == TextResult(text="mine")
    with pytest.raises(TypeError, match="does not support persistent sessions"):
        async with client.session():
            pass


@pytest.mark.rows("U-2", "U-5", "U-6")
async def test_invoke_gives_everything_to_callbacks(serve: Serve) -> None:
    class Mine(ResultMessageInterface):
        custom_score: float | None = None

    results: list[Mine] = []
    said: list[str] = []

    async def on_result(result: Mine) -> None:
        results.append(result)

    async def on_assistant(message: AssistantMessageInterface) -> None:
        said.extend(message.text_blocks)

    async with serve() as server:
        client = RuntimeUseClient(ws_url=server.url)
        await client.invoke(
            invocation=asks('STRUCTURED:{"success": true}'),
            on_result_message=on_result,
            result_message_cls=Mine,
        )
        await client.invoke(asks("STREAM:2"), on_result, Mine, on_assistant_message=on_assistant)
    assert results[0].structured_output == {"success": True}
    assert results[0].data == StructuredOutputResult(structured_output={"success": True})
    assert results[0].custom_score is None
    assert results[1].structured_output == {}
    assert said == ["message 1 of 2", "message 2 of 2"]


@pytest.mark.rows("U-2")
async def test_an_error_is_given_to_its_callback_or_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[str] = []

    async def on_error(message: ErrorMessageInterface) -> None:
        errors.append(message.error)

    async with serve() as server:
        client = RuntimeUseClient(server.url)
        prompt = asks("THROW:it broke")
        await client.invoke(prompt, ignore, ResultMessageInterface, on_error_message=on_error)
        await client.invoke(prompt, ignore, ResultMessageInterface)
    assert errors == ["it broke"]
    assert "error from the runtime: it broke" in caplog.text


@pytest.mark.rows("U-2", "N-1")
async def test_a_stream_without_an_end_is_logged_and_returns(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(json.dumps({"message_type": "strange_message"}))
        await socket.send("not json")

    async with stranger(talk) as url:
        client = RuntimeUseClient(url)
        await client.invoke(asks("x"), ignore, ResultMessageInterface, timeout=PATIENCE)
        with pytest.raises(AgentRuntimeError, match="No result message received"):
            await client.query("x", options())
    assert "ended without a result" in caplog.text
    assert "unknown type from the runtime: strange_message" in caplog.text


@pytest.mark.rows("U-2")
async def test_invoke_ends_at_the_terminal_message_of_a_server_that_stays() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        data = {"type": "text", "text": "t"}
        await socket.send(json.dumps({"message_type": "result_message", "data": data}))
        await socket.wait_closed()

    async with stranger(talk) as url:
        await RuntimeUseClient(url).invoke(
            asks("x"), ignore, ResultMessageInterface, timeout=PATIENCE
        )


@pytest.mark.rows("U-2", "U-15", "N-3")
async def test_invoke_times_out_and_cancels_inside(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server:
        with pytest.raises(TimeoutError):
            await RuntimeUseClient(server.url).invoke(
                asks("SLOW:600000"), ignore, ResultMessageInterface, timeout=0.2
            )
        assert all(run.ended for run in server._runs.values())


@pytest.mark.rows("U-3", "N-3")
async def test_is_cancelled_is_asked_while_nothing_comes(serve: Serve) -> None:
    lab = Lab()

    async def is_cancelled() -> bool:
        return lab.started.is_set()

    async with serve(lab) as server:
        with pytest.raises(CancelledException, match="Invocation was cancelled"):
            async with asyncio.timeout(PATIENCE):
                await RuntimeUseClient(server.url).invoke(
                    asks("SLOW:600000"), ignore, ResultMessageInterface, is_cancelled=is_cancelled
                )
        assert all(run.ended for run in server._runs.values())


@pytest.mark.rows("U-4")
@pytest.mark.parametrize("as_tuple", [True, False])
async def test_an_artifact_goes_where_the_callback_says(
    as_tuple: bool, serve: Serve, store: Store, tmp_path: Path
) -> None:
    async def where(request: ArtifactUploadRequestMessageInterface) -> Any:
        url = f"{store.url}/{request.filename}"
        if as_tuple:
            return url, "text/x"
        return ArtifactUploadResult(presigned_url=url, content_type="text/x")

    async with serve() as server:
        await RuntimeUseClient(server.url).invoke(
            asks(f"WRITE:{tmp_path}/art/a.txt|hello|0", artifacts_dir=str(tmp_path / "art")),
            ignore,
            ResultMessageInterface,
            on_artifact_upload_request=where,
        )
    assert [(put.path, put.data, put.content_type) for put in store.puts] == [
        ("/a.txt", b"hello", "text/x")
    ]


@pytest.mark.rows("U-7", "U-31")
async def test_what_is_sent_old_servers_understand() -> None:
    sent: list[dict[str, Any]] = []

    async def talk(socket: ServerConnection) -> None:
        async for text in socket:
            sent.append(json.loads(text))
            data = {"type": "text", "text": "t"}
            await socket.send(json.dumps({"message_type": "result_message", "data": data}))

    async with stranger(talk) as url:
        client = RuntimeUseClient(url)
        one = {"on_artifact_upload_request": ignore}
        await client.query("x", options(artifacts_dirs=["/a"], **one))
        await client.query("x", options(artifacts_dirs=["/a", "/b"], **one))
        await client.query("x", options())
    assert [(frame["artifacts_dir"], frame["artifacts_dirs"]) for frame in sent] == [
        ("/a", ["/a"]),
        (None, ["/a", "/b"]),
        (None, None),
    ]
    assert {frame["message_type"] for frame in sent} == {"invocation_message"}


# ---------------------------------------------------------------------- the later surface


@pytest.mark.rows("U-10")
async def test_an_error_has_its_metadata_in_its_text() -> None:
    error = AgentRuntimeError("broke", {"b": 1, "a": [2]})
    assert str(error) == 'broke\nmetadata: {"a": [2], "b": 1}'
    assert str(AgentRuntimeError("broke")) == "broke"


@pytest.mark.rows("U-11")
def test_folders_and_their_callback_are_given_together() -> None:
    text = "artifacts_dirs and on_artifact_upload_request must be specified together"
    given: list[dict[str, Any]] = [
        {"artifacts_dirs": ["/a"]},
        {"on_artifact_upload_request": ignore},
    ]
    for wrong in given:
        with pytest.raises(ValueError, match=text):
            QueryOptions("s", "m", **wrong)
        with pytest.raises(ValueError, match=text):
            ExecuteCommandsOptions(**wrong)
    QueryOptions("s", "m", artifacts_dirs=[])


async def test_a_callback_may_be_a_plain_function_that_blocks(serve: Serve) -> None:
    said: list[str] = []

    def on_assistant(message: Any) -> None:
        said.extend(message.text_blocks)

    async with serve() as server:
        client = RuntimeUseClient(server.url)
        await client.query("STREAM:2", options(on_assistant_message=on_assistant))
    assert said == ["message 1 of 2", "message 2 of 2"]


@pytest.mark.rows("U-16", "N-9")
async def test_a_large_result_arrives(serve: Serve) -> None:
    async with serve() as server:
        result = await RuntimeUseClient(server.url).query("BIG:3000000", options())
    assert isinstance(result.data, TextResult)
    assert len(result.data.text) == 3_000_000


async def test_a_server_that_is_not_there_is_an_error_at_once(serve: Serve) -> None:
    async with serve() as server:
        url = server.url
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await RuntimeUseClient(url).query("x", options())


@pytest.mark.rows("U-2", "U-10")
@pytest.mark.parametrize("kind", [[], {}, None, 5, True])
async def test_a_type_of_message_that_is_no_text_is_skipped(kind: Any) -> None:
    async def transport(
        send_queue: asyncio.Queue[dict[str, Any]],
    ) -> AsyncGenerator[dict[str, Any]]:
        await send_queue.get()
        yield {"message_type": kind}
        yield {"message_type": "result_message", "data": {"type": "text", "text": "on"}}

    found = await RuntimeUseClient(transport=transport).query("x", options())
    assert found.data == TextResult(text="on")


@pytest.mark.rows("U-31")
async def test_a_server_that_knows_no_run_is_asked_once() -> None:
    requests = 0

    async def unknown(socket: ServerConnection) -> None:
        nonlocal requests
        async for _ in socket:
            requests += 1
            metadata = {"code": "run_unknown"}
            await socket.send(
                json.dumps({"message_type": "error_message", "error": "no", "metadata": metadata})
            )

    async with serve_sockets(unknown, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        with pytest.raises(AgentRuntimeError, match="no"):
            await RuntimeUseClient(url).query("x", options())
    assert requests == 1


@pytest.mark.parametrize(
    "message",
    [
        {"message_type": "assistant_message", "text_blocks": ["x" * 4_000_000]},
        {"message_type": "assistant_message", "text_blocks": [""] * 40_000},
        {
            "message_type": "assistant_message",
            "text_blocks": [],
            "more": dict.fromkeys("abc", 0),
        },
    ],
)
async def test_no_more_is_read_ahead_than_memory_allows(
    message: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callback does not return; what is read meanwhile is a bounded number of bytes."""
    read, stopped, go_on = 0, asyncio.Event(), asyncio.Event()

    async def transport(
        send_queue: asyncio.Queue[dict[str, Any]],
    ) -> AsyncGenerator[dict[str, Any]]:
        nonlocal read
        await send_queue.get()
        while not go_on.is_set():
            read += 1
            yield message
            await asyncio.sleep(0)
        yield {"message_type": "result_message", "data": {"type": "text", "text": "on"}}

    async def on_assistant(_: Any) -> None:
        if go_on.is_set():
            return
        before = -1
        while before < read:  # the reader stops while this callback runs
            before = read
            for _ in range(100):
                await asyncio.sleep(0)
        stopped.set()
        go_on.set()

    monkeypatch.setattr(reading, "MAX_AHEAD", 10 * reading._size(message))
    client = RuntimeUseClient(transport=transport)
    found = await client.query("x", options(on_assistant_message=on_assistant))
    assert found.data == TextResult(text="on")
    assert stopped.is_set()
    assert read <= 12


def test_the_size_of_a_message_is_that_of_all_it_has() -> None:
    long = "x" * 1000
    for message in ({"a": long}, {long: 1}, {"a": [[long]]}, {"a": {"b": [{"c": long}]}}):
        assert reading._size(message) > 1000
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert reading._size({"a": deep}) > 100_000


async def test_a_url_of_another_kind_is_refused_without_its_token() -> None:
    client = RuntimeUseClient("http://127.0.0.1:1/?token=never-shown")
    with pytest.raises(ConfigError, match="give the URL of a WebSocket") as raised:
        await client.query("x", options())
    assert "never-shown" not in str(raised.value)
