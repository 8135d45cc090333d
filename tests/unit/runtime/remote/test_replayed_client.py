"""The servers' sides of the recordings, against our client."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote.client import RuntimeUseClient
from paddock.runtime.remote.messages import (
    ArtifactUploadResult,
    CommandInterface,
    InvocationMessage,
    ResultMessageInterface,
)
from paddock.runtime.remote.options import (
    AgentRuntimeError,
    CancelledException,
    ExecuteCommandsOptions,
    QueryOptions,
)
from tests.unit.runtime.remote import recordings
from tests.unit.runtime.remote.playing import Player, playing
from tests.unit.runtime.remote.talking import PATIENCE

if TYPE_CHECKING:
    from paddock.runtime.remote.client import RuntimeUseSession
    from paddock.runtime.remote.messages import (
        ArtifactUploadRequestMessageInterface,
        AssistantMessageInterface,
        CommandOutputMessageInterface,
        ErrorMessageInterface,
    )

RAW = {"w18_end_session_while_running"}
"""Recorded with frames written by hand: no client did that."""


class Caller:
    """Calls our client as the recorded caller called his."""

    def __init__(self, player: Player, name: str) -> None:
        self._player = player
        self._name = name
        self.seen: list[str] = []
        self.assistant: list[list[str]] = []
        self.out: list[list[str]] = []

    async def on_assistant(self, message: AssistantMessageInterface) -> None:
        self.assistant.append(message.text_blocks)
        if self._name.startswith("w20"):
            await asyncio.Event().wait()

    async def on_output(self, message: CommandOutputMessageInterface) -> None:
        self.out.append([message.stream, message.text, message.command])

    async def on_artifact(
        self, request: ArtifactUploadRequestMessageInterface
    ) -> ArtifactUploadResult:
        self.seen.append(request.filepath)
        return ArtifactUploadResult(presigned_url=f"http://s/{request.filename}", content_type="t")

    async def call(
        self, frame: dict[str, Any], on: RuntimeUseClient | RuntimeUseSession, *, aborts: bool
    ) -> dict[str, Any]:
        calling = asyncio.create_task(self._call(frame, on))
        if aborts:
            await self._player.awaits_cancel.wait()
            on.abort()
        try:
            return await calling
        except AgentRuntimeError as error:
            return {
                "raised": f"AgentRuntimeError: {error}",
                "error": error.error,
                "metadata": error.metadata,
            }
        except CancelledException as error:
            return {"raised": f"CancelledException: {error}"}

    async def _call(
        self, frame: dict[str, Any], on: RuntimeUseClient | RuntimeUseSession
    ) -> dict[str, Any]:
        folders = frame.get("artifacts_dirs")
        more: dict[str, Any] = {
            "on_command_output": self.on_output,
            "on_artifact_upload_request": self.on_artifact if folders else None,
            "artifacts_dirs": folders,
            "artifacts_ignore_content": frame.get("artifacts_ignore_content"),
            "secrets_to_redact": frame["secrets_to_redact"],
            "source_id": frame.get("source_id"),
            "timeout": PATIENCE,
        }
        if frame["message_type"] == "command_execution_message":
            commands = [CommandInterface(**each) for each in frame["commands"]]
            done = await on.execute_commands(commands, ExecuteCommandsOptions(**more))
            return done.model_dump()
        if self._name.startswith("w19"):
            more["idle_timeout"] = 1
        if self._name.startswith("w20"):
            more["assistant_callback_timeout"] = 0.3
        options = QueryOptions(
            frame["system_prompt"],
            frame["model"],
            on_assistant_message=self.on_assistant,
            output_format_json_schema_str=frame["output_format_json_schema_str"],
            **more,
        )
        return (await on.query(frame["user_prompt"], options)).model_dump()


@pytest.mark.rows("U-2", "U-6", "U-7", "U-10", "U-11", "U-12", "U-13", "U-14", "U-15", "U-16")
@pytest.mark.parametrize("name", [each for each in recordings.names("w") if each not in RAW])
async def test_a_recorded_server_is_understood(name: str) -> None:
    lines = recordings.load(name)
    async with playing(lines) as player, AsyncExitStack() as leaving:
        caller = Caller(player, name)
        client = RuntimeUseClient(player.url)
        sent = [line["frame"] for line in lines if line["dir"] == "c2s"]
        on: RuntimeUseClient | RuntimeUseSession = client
        if {"message_type": "end_session_message"} in sent:
            on = await leaving.enter_async_context(client.session())
        results = []
        for frame, following in zip(sent, [*sent[1:], {}], strict=True):
            if frame["message_type"] not in ("invocation_message", "command_execution_message"):
                continue
            aborts = following.get("message_type") == "cancel_message"
            results.append(await caller.call(frame, on, aborts=aborts))
    wanted = next(line for line in lines if line["dir"] == "client_outcome")
    check(wanted, results, caller)
    assert_sent_as_recorded(player.received, sent)


def check(wanted: dict[str, Any], results: list[dict[str, Any]], caller: Caller) -> None:
    if "raised" in wanted:
        told = results[0]["raised"]
        assert told.startswith(wanted["raised"].partition("...<")[0]), told
        return
    outcome = wanted["result"]
    if isinstance(outcome, list):
        assert len(outcome) == len(results)
        for one, other in zip(outcome, results, strict=True):
            if isinstance(one, dict):
                assert_within(one, other)
            else:
                assert "CancelledException" in one
                assert "CancelledException" in other["raised"]
        return
    told = {
        "assistant": caller.assistant,
        "out": caller.out,
        "outs": [each[1] for each in caller.out],
        "chunks": [each[1] for each in caller.out],
    }
    for key, value in outcome.items():
        if key == "seen":
            assert value in ([path.rpartition("/")[2] for path in caller.seen], caller.seen)
        elif key == "stdout":
            assert results[0]["results"][0]["stdout"] == value
        elif key in told:
            assert told[key] == value
        elif key != "puts":  # the server's
            assert_within({key: value}, results[0])


def assert_within(wanted: Any, found: Any) -> None:
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert_within(value, found[key])
    elif isinstance(wanted, list):
        for one, other in zip(wanted, found, strict=True):
            assert_within(one, other)
    else:
        assert found == wanted


def assert_sent_as_recorded(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Our client may send more, such as cancellations; what theirs sent, ours sends too."""
    rest = [
        frame for frame in wanted if frame["message_type"] != "artifact_upload_response_message"
    ]
    for frame in found:
        if rest and frame["message_type"] == rest[0]["message_type"]:
            same = {key: value for key, value in rest.pop(0).items() if value is not None}
            if "pre_agent_invocation_commands" not in same and "commands" not in same:
                same.pop("pre_agent_downloadables", None)
                same.pop("post_agent_invocation_commands", None)
                assert_within(same, frame)
    assert not rest


@pytest.mark.rows("U-2", "U-5", "U-6")
@pytest.mark.parametrize("name", [each for each in recordings.names("l") if "cancel" not in each])
async def test_a_recorded_old_server_is_understood(name: str) -> None:
    """The document's surface, on the wire of its time."""

    class Mine(ResultMessageInterface):
        custom_score: float | None = None

    lines = recordings.load(name)
    results: list[Mine] = []
    errors: list[str] = []

    async def on_result(message: Mine) -> None:
        results.append(message)

    async def on_error(message: ErrorMessageInterface) -> None:
        errors.append(message.error)

    async with playing(lines) as player:
        sent = next(line["frame"] for line in lines if line["dir"] == "c2s")
        await RuntimeUseClient(ws_url=player.url).invoke(
            invocation=InvocationMessage(**sent),
            on_result_message=on_result,
            result_message_cls=Mine,
            on_error_message=on_error,
            timeout=PATIENCE,
        )
    wanted = next(line for line in lines if line["dir"] == "client_outcome")
    assert errors == wanted["errors"]
    told = [each["structured_output"] for each in wanted["results"]]
    assert [each.structured_output for each in results] == told
    assert all(each.custom_score is None for each in results)
