"""What a session keeps to itself, way by way."""

from __future__ import annotations

import gc
import json
import linecache
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import paddock
from paddock._logs import get_logger
from paddock.backends.local import LocalBackend
from paddock.redaction import Redactor, ShortSecret
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.agents.secret_scope import RedactingModelClient, SecretScope
from paddock.runtime.core.model import ModelRequest, ModelResponse, TextDelta, ToolCall
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.core.model import ModelEvent

pytestmark = pytest.mark.rows("C49")

TOKEN = "nabcdefgh-token"
QUIET = Redactor({"TOKEN": TOKEN})


class Saying:
    """A model that says `events`, and knows whether its stream was closed."""

    def __init__(self, *events: ModelEvent) -> None:
        self._events = events
        self.asked: list[ModelRequest] = []
        self.open = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked.append(request)
        self.open += 1
        try:
            for event in self._events:
                yield event
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        self._events = ()


def request(*texts: str) -> ModelRequest:
    return ModelRequest(model="m", messages=[{"role": "user", "content": text} for text in texts])


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_an_answer_loses_its_secrets_however_it_is_cut(size: int) -> None:
    text = f"<{TOKEN}> and {TOKEN[:6]}"
    pieces = [TextDelta(text=text[at : at + size]) for at in range(0, len(text), size)]
    model = RedactingModelClient(Saying(*pieces, ModelResponse(text=text)), QUIET)
    events = [event async for event in model.stream(request("Go."))]
    last = events.pop()
    assert isinstance(last, ModelResponse)
    assert last.text == f"<[secret TOKEN]> and {TOKEN[:6]}"
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert "".join(delta.text for delta in deltas) == last.text


async def test_a_model_is_asked_without_secrets() -> None:
    saying = Saying(ModelResponse(text="Yes."))
    async for _ in RedactingModelClient(saying, QUIET).stream(request(f"Is it {TOKEN}?")):
        pass
    assert saying.asked == [request("Is it [secret TOKEN]?")]


async def test_leaving_an_answer_early_closes_the_stream_below() -> None:
    saying = Saying(TextDelta(text="one "), TextDelta(text="two "), ModelResponse(text="one two "))
    stream = RedactingModelClient(saying, QUIET).stream(request("Go."))
    await anext(stream)
    assert saying.open == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert saying.open == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (json.dumps({"command": f"echo {TOKEN}"}), '{"command": "echo [secret TOKEN]"}'),
        ('{"text": "\\nabcdefgh-token"}', '{"text": "\\nabcdefgh-token"}'),
        ('{"text": "nothing"}', '{"text": "nothing"}'),
        (f"{{broken {TOKEN}", "{broken [secret TOKEN]"),
    ],
)
async def test_arguments_lose_their_secrets_and_stay_json(arguments: str, told: str) -> None:
    call = ToolCall(id="1", name="bash", arguments=arguments)
    model = RedactingModelClient(Saying(ModelResponse(tool_calls=(call,))), QUIET)
    [event] = [event async for event in model.stream(request("Go."))]
    assert isinstance(event, ModelResponse)
    assert event.tool_calls[0].arguments == told


def test_the_log_holds_no_secrets_whichever_logger_and_whenever_it_was_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session(Agent(AgentConfig(secrets={"TOKEN": TOKEN})))
    log = get_logger("paddock.made.after.the.session")
    try:
        raise OSError(f"reading {TOKEN}")
    except OSError:
        log.exception("failed with %s", TOKEN)
    assert session.redactor
    [record] = caplog.records
    assert record.getMessage() == "failed with [secret TOKEN]"
    assert "OSError: reading [secret TOKEN]" in (record.exc_text or "")
    assert record.exc_info is None


def test_the_log_shows_no_secrets_in_a_stack(caplog: pytest.LogCaptureFixture) -> None:
    secrecy = SecretScope(Agent(), {"TOKEN": TOKEN})
    source = f"log.warning('here', stack_info=True)  # {TOKEN}"
    name = "<a file with a secret>"
    linecache.cache[name] = (len(source), None, [source], name)
    try:
        exec(compile(source, name, "exec"), {"log": get_logger("paddock")})
    finally:
        del linecache.cache[name]
    assert secrecy.redactor
    assert "[secret TOKEN]" in caplog.text
    assert TOKEN not in caplog.text


async def test_the_log_is_discreet_while_a_sandbox_outlives_its_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session(Agent(AgentConfig(secrets={"TOKEN": TOKEN})))
    keeper = session._resources._own_sandbox
    await session.get_sandbox()
    del session
    gc.collect()
    get_logger("paddock.sandbox").warning("closing with %s", TOKEN)
    await keeper.aclose()
    assert caplog.messages == ["closing with [secret TOKEN]"]


def test_logs_are_redacted_for_as_long_as_somebody_has_the_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scopes = [SecretScope(Agent(), {"TOKEN": TOKEN}), SecretScope(Agent(), {"OTHER": "of-another"})]
    factory = logging.getLogRecordFactory()
    get_logger("paddock").warning("%s %s", TOKEN, "of-another")
    logging.getLogger("of.somebody.else").warning("%s", TOKEN)
    assert logging.getLogRecordFactory() is factory, "which belongs to the process"
    scopes.clear()
    gc.collect()
    get_logger("paddock").warning("%s", TOKEN)
    assert caplog.messages == ["[secret TOKEN] [secret OTHER]", TOKEN, TOKEN]


def test_every_module_that_logs_has_a_logger_that_redacts() -> None:
    package = Path(paddock.__file__).parent
    logging_modules = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "getLogger(" in path.read_text()
    }
    assert logging_modules == {"_logs.py"}


def test_what_a_run_was_told_stays_unsaid_under_every_value() -> None:
    backend = LocalBackend(secrets={"A": "of-the-backend"})
    agent = Agent(AgentConfig(backend=backend, secrets={"B": "of-the-agent"}))
    secrecy = SecretScope(agent, {"C": "of-the-session"})
    with secrecy.keeping({"C": "of-the-first-run"}):
        pass
    with secrecy.keeping({"C": "of-the-second-run"}):
        pass
    said = "of-the-backend of-the-agent of-the-session of-the-first-run of-the-second-run"
    told = "[secret A] [secret B] [secret C] [secret C] [secret C]"
    assert secrecy.redactor.text(said) == told


@pytest.mark.parametrize("secret", ["user", "role", "call", "1", "t", "bash", "tool"])
async def test_a_short_secret_changes_no_word_that_holds_a_conversation_together(
    secret: str, tmp_path: Path
) -> None:
    """A run, its approval and a run after it, with a secret that is in all of their records."""
    seen: list[Any] = []

    def answer(request: ModelRequest) -> dict[str, Any]:
        seen.extend(request.messages)
        return {"text": "done"}

    call = {"id": "call_1", "name": "bash", "arguments": {"command": "echo $PIN; echo 1"}}
    agent = Agent(AgentConfig(backend=LocalBackend(isolation="none"), profile="unrestricted"))
    session = Session(
        agent,
        session_dir=tmp_path / "session",
        client=ScriptedModel([{"tool_calls": [call]}, answer, answer]),
        secrets={"PIN": ShortSecret(secret)},
    )
    async with session:
        first = await session.run("Go.")
        second = await session.run("Go on.")
    assert (first.status, second.status) == ("completed", "completed")
    assert [message["role"] for message in session.state.messages] == [
        "user", "assistant", "tool", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert {message["role"] for message in seen} == {"system", "user", "assistant", "tool"}
    [result] = [message for message in session.state.messages if message["role"] == "tool"]
    assert result["tool_call_id"] == "call_1"
    assert f'"output": "{secret}' not in result["content"]
