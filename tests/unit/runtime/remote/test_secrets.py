"""Secrets of a request: in nothing that leaves, however it is cut."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.runtime.remote.talking import Talker, command_request, invocation

if TYPE_CHECKING:
    from paddock.runtime.remote.handler import AgentInvocation, Sender
    from tests.unit.runtime.remote.conftest import Serve

LONG = "sk-secret-key"


@pytest.mark.rows("U-25", "N-6")
async def test_a_secret_in_pieces_of_output_is_not_shown(serve: Serve) -> None:
    command = "printf sk-sec; sleep 0.1; printf 'ret-key and sk-'; sleep 0.1; echo more"
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(command_request(command, secrets_to_redact=[LONG, ""]))
    assert talker.output() == "[REDACTED] and sk-more\n"
    assert ended["results"][0]["stdout"] == "[REDACTED] and sk-more\n"


@pytest.mark.rows("U-25", "N-6")
@pytest.mark.parametrize("cut", range(1, len(LONG)))
async def test_a_secret_in_two_messages_is_not_shown(cut: int, serve: Serve) -> None:
    async def handler(_: AgentInvocation, sender: Sender) -> str:
        await sender.send_assistant_message([f"it is {LONG[:cut]}"])
        await sender.send_assistant_message([LONG[cut:], "end s"])
        return "done"

    async with serve(handler) as server, Talker(server.url) as talker:
        await talker.ask(invocation("x", secrets_to_redact=[LONG]))
    said = [text for frame in talker.of("assistant_message") for text in frame["text_blocks"]]
    assert "".join(said) == "it is [REDACTED]end s"


@pytest.mark.rows("U-25")
async def test_short_and_encoded_secrets_are_found_everywhere(serve: Serve) -> None:
    secrets = [LONG, "pin", "sk-secret-key-longer"]
    encoded = base64.b64encode(LONG.encode()).decode()

    async def handler(invocation: AgentInvocation, sender: Sender) -> Any:
        sender.send_error_message(f"warned of {LONG}", {LONG: ["pin"]})
        invocation.logger.warning("log %s", LONG)
        if invocation.user_prompt == "raise":
            raise ValueError(f"failed with {LONG}") from KeyError("pin")
        return {"a": {LONG: f"{encoded} pin", "n": ["sk-secret-key-longer"]}, "spinning": 1}

    async with serve(handler) as server, Talker(server.url) as talker:
        request = invocation("x", secrets_to_redact=secrets)
        request["pre_agent_invocation_commands"] = [{"command": f"echo {LONG} pin"}]
        ended = await talker.ask(request)
        await talker.ask({**request, "user_prompt": "raise"})
        await talker.ask(command_request(f"cat /{LONG}", f"echo {LONG}", secrets_to_redact=secrets))
    told = json.dumps(talker.frames)
    assert ended["data"]["structured_output"]["a"]["n"] == ["[REDACTED]"]
    for secret in (LONG, encoded, "pin"):
        assert secret not in told
    assert "s[REDACTED]ning" in told


@pytest.mark.rows("U-25")
async def test_the_log_has_no_secret_while_its_run_goes_on(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(invocation: AgentInvocation, _: Sender) -> str:
        invocation.logger.warning("it is %s", LONG)
        raise ValueError(LONG)

    async with serve(handler) as server, Talker(server.url) as talker:
        await talker.ask(invocation("x", secrets_to_redact=[LONG]))
    logged = caplog.text
    assert "[REDACTED]" in logged
    assert LONG not in logged


@pytest.mark.rows("U-25")
async def test_secrets_that_are_words_of_the_wire_do_not_break_it(serve: Serve) -> None:
    words = ["message_type", "result_message", "text", "data", "type", "stdout", "e", "1"]
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(invocation("ECHO:1 text", secrets_to_redact=words))
        assert ended["data"] == {"type": "text", "text": "[REDACTED] [REDACTED]"}
        done = await talker.ask(command_request("echo 1; exit 1", secrets_to_redact=words))
        assert done["results"][0]["exit_code"] == 1
        assert done["results"][0]["stdout"] == "[REDACTED]\n"


@pytest.mark.rows("U-25")
async def test_too_many_secrets_are_refused(serve: Serve) -> None:
    async with serve() as server, Talker(server.url) as talker:
        many = await talker.ask(invocation("ECHO:x", secrets_to_redact=["secret"] * 1001))
        assert "secrets_to_redact" in many["error"]
        long = await talker.ask(invocation("ECHO:x", secrets_to_redact=["x" * 70_000]))
        assert "secrets_to_redact" in long["error"]
