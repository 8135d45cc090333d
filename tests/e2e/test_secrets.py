"""Secrets reach the commands, and nothing else: canaries are planted, then looked for.

Whatever leaves a session is searched for every spelling of every canary.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import random
import string
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Agent, AgentConfig, Image, ScriptedModel, Session, SessionStore
from paddock._logs import get_logger
from paddock._spellings import spellings
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.images.build import ensure
from paddock.backends.local import LocalBackend
from paddock.errors import ConfigError, ExecFailed, ExecTimeout, SetupFailed
from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.tools.base import ToolHandler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from paddock import AgentEvent
    from paddock.backends.base import Progress
    from paddock.backends.docker.engine.client import Engine
    from paddock.runtime.core.model import ModelRequest
    from tests.e2e.conftest import Daytona, Paddock

pytestmark = pytest.mark.rows("C49", "C50")

COUNT = 20
TOKEN = "tk-5e4d9c81-correct-horse"


def planted() -> dict[str, str]:
    chance = random.Random(49)
    letters = string.ascii_letters + string.digits + "+/ '\"\\$&"
    return {f"CANARY_{n}": "".join(chance.choices(letters, k=24)) for n in range(COUNT)}


def encoded(secret: str) -> list[str]:
    """The eight encodings that are asked for."""
    data = secret.encode()
    return [
        secret,
        base64.b64encode(data).decode(),
        base64.b64encode(b"x" + data).decode(),
        base64.urlsafe_b64encode(b"xy" + data).decode(),
        data.hex(),
        data.hex().upper(),
        urllib.parse.quote(secret),
        json.dumps(secret)[1:-1],
    ]


def leaks(data: bytes, secrets: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {spelling!r}"
        for name, secret in secrets.items()
        for spelling in spellings(secret)
        if spelling in data
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Gossip(ToolHandler):
    """A tool that says all that it knows, or fails with it."""

    name = "gossip"
    description = "Says it all."
    parameters = {"type": "object", "additionalProperties": True}  # noqa: RUF012 - a constant

    def __init__(self, told: list[str]) -> None:
        self._told = told

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        text = "\n".join(self._told)
        get_logger("paddock.runtime.tools").warning("gossip: %s", text)
        if invocation.arguments.get("fail"):
            raise RuntimeError(text)
        metadata = {"lines": self._told, **dict.fromkeys(self._told, 1)}
        return ToolOutput(content=text * 40, metadata=metadata)


class Listener:
    """Keeps what an observer, a callback of events, and a log are told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_event(self, event: dict[str, Any]) -> None:
        self.heard.append(event)

    def __call__(self, event: AgentEvent) -> None:
        self.heard.append(event)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Every line that is logged, with its traceback."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, root = Kept(), logging.getLogger("paddock")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


async def test_canaries_in_every_encoding_leave_a_session_by_none_of_its_ways_out(
    tmp_path: Path, log: list[str]
) -> None:
    secrets = planted()
    told = [text for secret in secrets.values() for text in encoded(secret)]
    whole = "\n".join(told)
    asked: list[ModelRequest] = []

    def last(request: ModelRequest) -> dict[str, str]:
        asked.append(request)
        return {"text": f"It said: {whole}"}

    model = ScriptedModel(
        [
            {"text": whole, "tool_calls": [{"name": "gossip", "arguments": {"say": whole}}]},
            {"tool_calls": [{"name": "gossip", "arguments": {"fail": True, whole[:200]: 1}}]},
            {"tool_calls": [{"name": "bash", "arguments": {"command": "printenv; printenv >&2"}}]},
            last,
        ]
    )
    config = AgentConfig(
        backend=LocalBackend(isolation="none", secrets=secrets),
        profile="unrestricted",
        system_prompt=f"Keep quiet about {whole}",
        extras={"note": whole},
    )
    agent = Agent(config)
    agent.registry.register(Gossip(told))
    store = SessionStore(tmp_path)
    name = store.create_session(agent).id
    session = Session(agent, session_id=name, session_dir=tmp_path / name, client=model)
    listener = Listener()
    session.state.add_observer(listener)
    async with session:
        result = await session.run(prompt=f"Look into {whole}", on_event=listener)
    assert result.status == "completed"
    assert "[secret CANARY_7]" in result.text
    files = files_below(tmp_path)
    assert {"config.yaml", "trace.jsonl", "meta.json"} <= files.keys()
    ways_out = {
        **files,
        "model": repr(asked).encode(),
        "result": repr(result).encode(),
        "observer and events": repr(listener.heard).encode(),
        "state": session.state.to_jsonl(),
        "log": "\n".join(log).encode(),
        "recipe": repr((config.backend, agent.create_backend(), agent.secrets)).encode(),
    }
    assert any("gossip: [secret" in line for line in log)
    assert {
        place: found for place, data in ways_out.items() if (found := leaks(data, secrets))
    } == {}


async def test_an_answer_that_comes_in_pieces_shows_no_secret(tmp_path: Path) -> None:
    model = ScriptedModel([{"text": "".join(f"say {TOKEN}; " for _ in range(50))}])
    agent = Agent(AgentConfig(secrets={"TOKEN": TOKEN}))
    shown: list[str] = []
    async with Session(agent, client=model) as session:
        result = await session.run(
            prompt="Go.", on_event=lambda event: shown.append(event.content or "")
        )
    assert result.text == "say [secret TOKEN]; " * 50
    assert "".join(shown[:-1]).startswith("say [secret TOKEN]; say [secret TOKEN]; ")
    assert TOKEN not in "".join(shown)


@pytest.mark.parametrize("shift", [0, 7])
async def test_where_tools_cut_what_they_show_no_part_of_a_secret_is_left(shift: int) -> None:
    backend = LocalBackend(isolation="none", secrets={"TOKEN": TOKEN})
    repeat = "i=0; while [ $i -lt 9000 ]; do printf %s $TOKEN; i=$((i+1)); done"
    write = f"printf '%0{shift + 1}d' 0; {repeat}"
    calls: list[tuple[str, dict[str, Any]]] = [
        ("bash", {"command": write}),
        ("bash", {"command": f"({write}) >long"}),
        ("bash", {"command": f"{write}; sleep 60", "timeout": 0.8}),
        ("read", {"path": "long"}),
        ("grep", {"pattern": "tk-", "path": "long"}),
    ]
    turns = [{"tool_calls": [{"name": name, "arguments": asked}]} for name, asked in calls]
    agent = Agent(AgentConfig(backend=backend, profile="unrestricted"))
    async with Session(agent, client=ScriptedModel([*turns, {"text": "Done."}])) as session:
        result = await session.run(prompt="Go.")
    outputs = [event.tool_result or "" for event in result.events if event.type == "tool_end"]
    assert len(outputs) == len(calls)
    for (name, _), output in zip(calls, outputs, strict=True):
        said = output.replace("[secret TOKEN]", "")
        parts = [TOKEN[place : place + 4] for place in range(len(TOKEN) - 3)]
        assert not [part for part in parts if part in said], name
    assert sum("[secret TOKEN]" in output for output in outputs) == len(calls) - 1


async def test_secrets_of_a_run_are_in_its_commands_alone_and_stay_unsaid() -> None:
    backend = LocalBackend(isolation="none", secrets={"STANDING": "standing-secret-1"})
    look = {"name": "bash", "arguments": {"command": "echo $STANDING/$OWN/$ONCE | tee -a seen"}}
    again = {"name": "bash", "arguments": {"command": "echo [$ONCE]; cat seen"}}
    model = ScriptedModel(
        [{"tool_calls": [look]}, {"text": "One."}, {"tool_calls": [again]}, {"text": "Two."}]
    )
    agent = Agent(AgentConfig(backend=backend, profile="unrestricted"))
    async with Session(agent, client=model, secrets={"OWN": "session-secret"}) as session:
        await session.run(prompt="First.", secrets={"ONCE": "just-this-once"})
        result = await session.run(prompt="Second.")
        sandbox = await session.get_sandbox()
        seen = await sandbox.exec("cat seen; echo [$ONCE]")
    # What the program itself asks for, it gets.
    assert seen.stdout == "standing-secret-1/session-secret/just-this-once\n[]\n"
    output = next(event.tool_result for event in result.events if event.type == "tool_end")
    assert output is not None
    assert "[]\\n[secret STANDING]/[secret OWN]/[secret ONCE]" in output


async def test_progress_and_errors_of_a_recipe_say_no_secret() -> None:
    told: list[Progress] = []
    backend = LocalBackend(
        isolation="none",
        secrets={"TOKEN": TOKEN},
        setup=[f"test {TOKEN} = $TOKEN", f"echo {TOKEN} >&2; exit 3"],
    )
    with pytest.raises(SetupFailed) as caught:
        await backend.create(on_progress=told.append)
    assert TOKEN not in f"{told} {caught.value} {caught.value!r}"
    assert "exit 3): echo [secret TOKEN] >&2" in str(caught.value)
    assert TOKEN in caught.value.stderr


async def test_errors_of_commands_say_no_secret_and_keep_what_was_said() -> None:
    async with LocalBackend(isolation="none", secrets={"TOKEN": TOKEN}).sandbox() as sandbox:
        with pytest.raises(ExecFailed) as failed:
            await sandbox.exec(["sh", "-c", f"echo $TOKEN; : {TOKEN}; exit 2"], check=True)
        with pytest.raises(ExecTimeout) as late:
            await sandbox.exec("echo $TOKEN; sleep 60", timeout=0.5)
    for error in (failed.value, late.value):
        assert TOKEN not in f"{error} {error!r}"
        assert error.stdout == f"{TOKEN}\n"


def test_a_file_has_the_names_of_secrets_and_the_environment_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(secrets={"OF_BACKEND": "backend-secret"})
    path = tmp_path / "agent.yaml"
    AgentConfig(backend=backend, secrets={"TOKEN": TOKEN}).to_file(path)
    assert leaks(path.read_bytes(), {"TOKEN": TOKEN, "OF_BACKEND": "backend-secret"}) == []
    with pytest.raises(ConfigError, match="OF_BACKEND, TOKEN"):
        AgentConfig.from_file(path)
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("OF_BACKEND", "other-value")
    again = AgentConfig.from_file(path)
    assert dict(again.secrets) == {"TOKEN": TOKEN, "OF_BACKEND": "other-value"}
    assert dict(Agent(again).create_backend().secrets) == dict(again.secrets)


# Who else could see them

PROBE = """
import glob, os
mine, pid = set(), os.getpid()
while pid > 1:
    mine.add(str(pid))
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    if path.split("/")[2] not in mine:
        try:
            data = open(path, "rb").read()
        except OSError:
            continue
        print(path, data)
"""
"""Prints what processes show that are neither it nor its parents."""


@pytest.mark.docker
async def test_the_engine_is_told_no_secret(docker_engine: Engine) -> None:
    backend = DockerBackend(secrets={"TOKEN": TOKEN}, env_vars={"OTHER": "known"})
    async with backend.sandbox() as sandbox:
        assert (await sandbox.exec("echo $TOKEN")).stdout == f"{TOKEN}\n"
        seen = await docker_engine.call(
            "looking", docker_engine.client.inspect_container, sandbox.id
        )
        processes = await sandbox.exec(["python3", "-c", PROBE])
        first = await sandbox.exec("cat /proc/1/environ /proc/1/cmdline")
        kept = await sandbox.exec("grep -rlsa tk-5e4d9c81 / --exclude-dir=proc --exclude-dir=sys")
    assert processes.ok
    told = {"TOKEN": TOKEN}
    assert leaks(json.dumps(seen).encode(), told) == []
    assert leaks(processes.stdout_bytes + first.stdout_bytes, told) == []
    assert kept.stdout == ""


@pytest.mark.docker
async def test_the_engine_shows_no_secret_where_it_runs_the_commands_itself(
    docker_engine: Engine,
) -> None:
    hidden = "mkdir -p /opt/python/bin && mv /usr/bin/python3* /opt/python/bin"
    image = await ensure(docker_engine, Image.from_registry("paddock:base").run_commands(hidden))
    backend = DockerBackend(image=image, network="none", secrets={"TOKEN": TOKEN})
    client, told = docker_engine.client, {"TOKEN": TOKEN}
    async with backend.sandbox() as sandbox, await sandbox.start("echo $TOKEN; cat") as process:
        assert await anext(process.output()) == ("stdout", f"{TOKEN}\n".encode())
        seen = await docker_engine.call("looking", client.inspect_container, sandbox.id)
        runs = [
            await docker_engine.call("looking", client.exec_inspect, one) for one in seen["ExecIDs"]
        ]
        words = await sandbox.exec("cat /proc/1/environ /proc/*/cmdline")
    assert runs
    assert leaks(json.dumps([seen, runs]).encode(), told) == []
    assert leaks(words.stdout_bytes, told) == []


async def test_daytona_is_told_no_secret_when_a_sandbox_is_made(daytona: Daytona) -> None:
    backend = dataclasses.replace(daytona.recipe, secrets={"TOKEN": TOKEN})
    assert leaks(repr((backend, backend._settings())).encode(), {"TOKEN": TOKEN}) == []
    async with backend.sandbox() as sandbox:
        assert (await sandbox.exec("echo $TOKEN")).stdout == f"{TOKEN}\n"
        known = repr([vars(each) for each in daytona.server.sandboxes.values()])
    assert leaks(known.encode(), {"TOKEN": TOKEN}) == []


def test_a_command_that_fails_says_no_secret(paddock: Paddock) -> None:
    config = {
        "model": "scripted:script.yaml",
        "secrets": ["TOKEN"],
        "auto_approve": True,
        "backend": {"type": "local", "isolation": "none", "setup": ["echo $TOKEN >&2; exit 3"]},
    }
    turns = [{"tool_calls": [{"name": "bash", "arguments": {"command": "true"}}]}]
    (paddock.cwd / "agent.yaml").write_text(json.dumps(config))
    (paddock.cwd / "script.yaml").write_text(json.dumps(turns))
    for options in ([], ["--debug"]):
        done = paddock(*options, "run", "Go.", "-c", "agent.yaml", "--trust", env={"TOKEN": TOKEN})
        told = done.stdout + done.stderr
        assert done.returncode == 1
        assert TOKEN not in told
        assert "[secret TOKEN]" in told
    assert leaks(b"".join(files_below(paddock.home).values()), {"TOKEN": TOKEN}) == []
