"""Sessions on disk."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, SessionError, TraceError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.runtime.session.store import SessionInfo, SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock.runtime.core.model import ModelRequest

SCRIPT = "- text: One.\n- text: Two.\n- text: Three.\n"


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    model = f"scripted:{tmp_path / 'script.yaml'}"
    return Agent(AgentConfig(system_prompt="Help.", profile="developer", model=model))


@pytest.mark.rows("S-35")
async def test_a_session_is_saved_and_resumed(store: SessionStore, agent: Agent) -> None:
    session = store.create_session(agent)
    await session.run(prompt="First.")
    session_id = session.state.session_id
    assert session_id is not None
    assert session_id == session.id
    trace = store.base_dir / session_id / "trace.jsonl"
    before = trace.read_bytes()
    resumed = store.resume(session_id, agent)
    assert (await resumed.run(prompt="Second.")).text == "Two."
    assert trace.read_bytes().startswith(before)
    assert trace.stat().st_size > len(before)
    assert resumed.state.get_user_messages() == ["First.", "Second."]
    alone = store.resume(session_id)
    assert alone.agent.config == agent.config
    assert alone.state.run_count == 2
    again = store.resume(session_id, agent_config=agent.config)
    assert (await again.run(prompt="Third.")).text == "Three."
    for each in (session, resumed, again):
        await each.close()


@pytest.mark.rows("S-36", "S-37")
async def test_what_a_list_shows_is_true(store: SessionStore, agent: Agent) -> None:
    first = store.create_session(agent)
    second = store.create_session(agent, session_id="mine")
    await second.run(prompt="Do this\nthen " + "that " * 30)
    infos = store.list()
    assert [info.id for info in infos] == ["mine", first.id]
    assert [info.status for info in infos] == ["completed", "created"]
    assert [info.first_prompt for info in infos] == ["Do this\nthen " + "that " * 30, ""]
    assert infos[0].model == agent.config.model
    assert infos[0].profile == "developer"
    assert infos[0].created_at.tzinfo is not None
    assert infos[0].created_at <= dt.datetime.now(dt.UTC)
    assert infos[0].display_preview.startswith("Do this then that")
    assert infos[0].display_preview.endswith("...")
    assert len(infos[0].display_preview) == 63
    assert store.get_latest_id() == "mine"
    assert len(store.list(limit=1)) == 1
    store.update_status("mine", "archived")
    assert store.info("mine").status == "archived"
    await second.close()


@pytest.mark.rows("S-33", "S-34")
def test_a_session_has_a_short_random_id_unless_it_is_given_one(
    store: SessionStore, agent: Agent
) -> None:
    ids = {store.create_session(agent).id for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{8}", name) for name in ids)
    assert store.create_session(agent, session_id="mine").id == "mine"
    made = {path.name for path in store.base_dir.iterdir() if path.is_dir()}
    assert made == {*ids, "mine"}


@pytest.mark.rows("S-36")
def test_a_list_is_of_the_twenty_newest_sessions(store: SessionStore, agent: Agent) -> None:
    names = [f"s{number:02}" for number in range(22)]
    for name in names:
        store.create_session(agent, session_id=name)
    assert [info.id for info in store.list()] == names[:1:-1]
    assert len(store.list(limit=None)) == 22
    assert store.get_latest_id() == "s21"


@pytest.mark.rows("S-38")
async def test_the_note_of_a_session_follows_its_runs(store: SessionStore, agent: Agent) -> None:
    path = store.base_dir / "one" / "meta.json"
    seen: list[str] = []

    def note() -> tuple[str, str]:
        meta = json.loads(path.read_text())
        return meta["status"], meta["first_prompt"]

    def answer(request: ModelRequest) -> dict[str, str]:
        seen.append(note()[0])
        return {"text": "Hi."} if len(seen) == 1 else {"error": "overloaded"}

    store.create_session(agent, session_id="one")
    model = ScriptedModel([answer, answer])
    session = Session(agent, session_id="one", session_dir=path.parent, client=model)
    assert note() == ("created", "")
    await session.run(prompt="First.")
    assert note() == ("completed", "First.")
    await session.run(prompt="Second.")
    assert note() == ("error", "First.")
    assert seen == ["running", "running"]


@pytest.mark.rows("S-37")
def test_what_is_known_of_a_session_comes_in_the_documented_order() -> None:
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    info = SessionInfo("a", "created", at, "gpt-5-mini", "readonly", "x" * 60)
    assert (info.id, info.status, info.created_at) == ("a", "created", at)
    assert (info.model, info.profile, info.first_prompt) == ("gpt-5-mini", "readonly", "x" * 60)
    assert info.display_preview == "x" * 60, "nothing is left out, so nothing says so"


def test_an_empty_store_has_nothing(store: SessionStore) -> None:
    assert store.list() == []
    assert store.get_latest_id() is None
    assert not store.base_dir.exists(), "looking makes nothing"


@pytest.mark.rows("S-34", "S-38")
async def test_files_are_private_and_where_they_should_be(
    store: SessionStore, agent: Agent
) -> None:
    session = store.create_session(agent, session_id="one")
    await session.run(prompt="Go.")
    await session.close()
    directory = store.base_dir / "one"
    assert sorted(path.name for path in directory.iterdir()) == [
        "config.yaml", "meta.json", "trace.jsonl",
    ]  # fmt: skip
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert AgentConfig.from_file(directory / "config.yaml") == agent.config
    meta = json.loads((directory / "meta.json").read_text())
    assert {"id", "status", "created_at", "started_at", "model", "profile", "first_prompt"} <= {
        *meta
    }


@pytest.mark.rows("S-35")
def test_sessions_are_found_by_the_beginning_of_their_id(store: SessionStore, agent: Agent) -> None:
    for name in ("abc1", "abc2", "xyz"):
        store.create_session(agent, session_id=name)
    assert store.find("x") == "xyz"
    assert store.find("abc1") == "abc1"
    with pytest.raises(SessionError, match="abc1, abc2"):
        store.find("abc")
    with pytest.raises(FileNotFoundError, match="Session not found: nope"):
        store.resume("nope", agent)
    with pytest.raises(SessionError, match="exists already"):
        store.create_session(agent, session_id="xyz")


@pytest.mark.parametrize("name", ["../etc", "a/b", ".hidden", "-rf", "a\nb"])
def test_an_id_cannot_leave_the_store(store: SessionStore, agent: Agent, name: str) -> None:
    with pytest.raises(ConfigError):
        store.create_session(agent, session_id=name)
    with pytest.raises(FileNotFoundError):
        store.resume(name, agent)


def test_a_note_that_is_missing_or_broken_does_not_hide_a_session(
    store: SessionStore, agent: Agent
) -> None:
    for name, note in (("a", None), ("b", "{"), ("c", "[]"), ("d", '{"created_at": 3}')):
        store.create_session(agent, session_id=name)
        meta = store.base_dir / name / "meta.json"
        meta.unlink() if note is None else meta.write_text(note)
    assert {info.id: info.status for info in store.list()} == dict.fromkeys("abcd", "unknown")


async def test_a_damaged_trace_is_told_and_not_written_to(
    store: SessionStore, agent: Agent
) -> None:
    session = store.create_session(agent, session_id="one")
    await session.run(prompt="Go.")
    await session.close()
    trace = store.base_dir / "one" / "trace.jsonl"
    damaged = trace.read_bytes().replace(b"Go.", b"No.", 1)
    trace.write_bytes(damaged)
    with pytest.raises(TraceError, match="line 1"):
        store.resume("one", agent)
    assert trace.read_bytes() == damaged
    assert store.info("one").status == "completed"


@pytest.mark.rows("S-14")
async def test_a_torn_tail_is_repaired_and_told(store: SessionStore, agent: Agent) -> None:
    session = store.create_session(agent, session_id="one")
    await session.run(prompt="Go.")
    await session.close()
    trace = store.base_dir / "one" / "trace.jsonl"
    with trace.open("ab") as file:
        file.write(b'{"type":"run_st')
    seen = store.load_state("one")
    assert seen.run_count == 1, "looking repairs nothing"
    resumed = store.resume("one", agent)
    records = [json.loads(line) for line in trace.read_text().splitlines()]
    (told,) = [record for record in records if record["type"] == "trace_repaired"]
    assert told["quarantine"] == "trace.jsonl.torn-1"
    assert (await resumed.run(prompt="More.")).status == "completed"
    await resumed.close()


@pytest.mark.rows("S-33")
def test_the_environment_may_say_where_sessions_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDOCK_SESSIONS_DIR", str(tmp_path / "here"))
    assert SessionStore().base_dir == tmp_path / "here"
    monkeypatch.delenv("PADDOCK_SESSIONS_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert SessionStore().base_dir == tmp_path / "paddock" / "sessions"


@pytest.mark.rows("S-35")
async def test_a_leftover_cancel_file_does_not_cancel_a_resumed_session(
    store: SessionStore, agent: Agent
) -> None:
    session = store.create_session(agent, session_id="one")
    (store.base_dir / "one" / "cancel").touch()
    resumed = store.resume("one", agent)
    assert (await resumed.run(prompt="Go.")).status == "completed"
    await session.close()
    await resumed.close()


async def test_a_thousand_sessions_run_at_once_without_a_task_or_a_thread_each(
    agent: Agent,
) -> None:
    import asyncio
    import threading

    most: list[int] = []

    def look(request: Any) -> dict[str, str]:
        most.append(len(asyncio.all_tasks()))
        return {"text": "Hi."}

    client = ScriptedModel([look])
    sessions = [Session(agent, client=client) for _ in range(1000)]
    results = await asyncio.gather(*(session.run(prompt="Go.") for session in sessions))
    assert {result.text for result in results} == {"Hi."}
    assert max(most) <= 2 * len(sessions) + 1
    assert threading.active_count() < 40


@pytest.mark.rows("S-36")
def test_a_list_is_right_whatever_the_index_says(store: SessionStore, agent: Agent) -> None:
    """It only saves time: sessions that it lacks are read, sessions that are gone are not shown."""
    ids = [store.create_session(agent).id for _ in range(4)]
    index = store.base_dir / ".index"
    expected = [*reversed(ids)]
    for broken in (
        b"",
        b"\xff\x00 nonsense\nzzz " + ids[0].encode() + b"\n",
        index.read_bytes().replace(b"\n", b"", 1),  # a write that was torn
        index.read_bytes() + b"2999-01-01T00:00:00+00:00 gone\n",
    ):
        index.write_bytes(broken)
        assert [info.id for info in store.list()] == expected
        assert store.get_latest_id() == ids[-1]
    index.unlink()
    index.mkdir()
    assert store.create_session(agent, session_id="later").id == "later"
    index.rmdir()
    assert store.get_latest_id() == "later"


def test_a_list_of_thousands_of_sessions_reads_few_of_them(
    store: SessionStore, agent: Agent
) -> None:
    """Beside asking the file system about each: a ratio, since the machine may be busy."""
    store.create_session(agent)
    with (store.base_dir / ".index").open("a") as index:
        for number in range(2_000):
            (store.base_dir / f"s{number}").mkdir()
            index.write(f"2020-01-01T00:00:00.{number:06}+00:00 s{number}\n")
    (newest, *_, last) = store.list(limit=6)
    assert (newest.model, last.id) == (agent.config.model, "s1995")
    floor = fastest(lambda: [entry.stat() for entry in os.scandir(store.base_dir)])
    assert fastest(store.list) < 3 * floor


def fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


async def test_a_search_finds_what_was_said(store: SessionStore, agent: Agent) -> None:
    prompts = ["The Blue one", "a grün path\\to", "nothing"]
    sessions = [store.create_session(agent) for _ in prompts]
    for session, prompt in zip(sessions, prompts, strict=True):
        await session.run(prompt=prompt)
        await session.close()

    def found(text: str, limit: int | None = 20) -> list[str]:
        return [info.first_prompt for info in store.search(text, limit)]

    assert found("blue ONE") == [prompts[0]]
    assert found("GRÜN path\\to") == [prompts[1]]
    assert found("One.") == [*reversed(prompts)], "answers count too"
    assert found("one.", 1) == prompts[2:]
    assert found("role") == found("user") == [], "the form of a trace is not what was said"
    assert found("") == [*reversed(prompts)]
    assert found("\udc80") == []


@pytest.mark.rows("S-36")
async def test_a_status_is_what_the_trace_says_when_the_note_came_too_late(
    store: SessionStore, agent: Agent
) -> None:
    """The process died after the run's end was recorded, or before it was."""
    session = store.create_session(agent, session_id="one")
    await session.run(prompt="First.")
    await session.close()
    assert session.directory is not None
    session.directory.update_meta(status="running")
    assert store.info("one").status == "completed"
    with session.directory.trace.open("ab") as trace:
        trace.write(b'{"type":"run_start","prompt":"x","run_id":2}\n{"type":"mess')
    assert store.info("one").status == "interrupted"
    session.directory.trace.unlink()
    assert store.info("one").status == "interrupted"


def test_an_index_that_cannot_be_read_only_costs_time(store: SessionStore, agent: Agent) -> None:
    store.create_session(agent, session_id="one")
    index = store.base_dir / ".index"
    index.unlink()
    index.mkdir()
    store.create_session(agent, session_id="two")
    assert {info.id for info in store.list()} == {"one", "two"}


def test_a_session_that_cannot_be_written_leaves_its_id_free(
    store: SessionStore, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **fields: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SessionDirectory, "update_meta", full)
        with pytest.raises(OSError, match="No space left"):
            store.create_session(agent, session_id="one")
    assert store.list() == []
    assert store.create_session(agent, session_id="one").id == "one"


def test_a_session_is_not_resumed_with_two_agents(store: SessionStore, agent: Agent) -> None:
    store.create_session(agent, session_id="one")
    with pytest.raises(TypeError, match="not both"):
        store.resume("one", agent, agent_config=agent.config)
