"""Sessions on disk."""

from __future__ import annotations

import datetime as dt
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, SessionError, TraceError
from paddock.runtime.agent import Agent
from paddock.runtime.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session import Session
from paddock.runtime.store import SessionStore

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "- text: One.\n- text: Two.\n- text: Three.\n"


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "sessions")


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    model = f"scripted:{tmp_path / 'script.yaml'}"
    return Agent(AgentConfig(system_prompt="Help.", profile="developer", model=model))


async def test_a_session_is_saved_and_resumed(store: SessionStore, agent: Agent) -> None:
    session = store.create_session(agent)
    await session.run(prompt="First.")
    session_id = session.state.session_id
    assert session_id is not None
    assert session_id == session.id
    resumed = store.resume(session_id, agent)
    assert (await resumed.run(prompt="Second.")).text == "Two."
    assert resumed.state.get_user_messages() == ["First.", "Second."]
    alone = store.resume(session_id)
    assert alone.agent.config == agent.config
    assert alone.state.run_count == 2
    again = store.resume(session_id, agent_config=agent.config)
    assert (await again.run(prompt="Third.")).text == "Three."
    for each in (session, resumed, again):
        await each.close()


async def test_what_a_list_shows_is_true(store: SessionStore, agent: Agent) -> None:
    first = store.create_session(agent)
    second = store.create_session(agent, session_id="mine")
    await second.run(prompt="Do this\nthen " + "that " * 30)
    infos = store.list()
    assert [info.id for info in infos] == ["mine", first.id]
    assert [info.status for info in infos] == ["completed", "created"]
    assert infos[0].model == agent.config.model
    assert infos[0].profile == "developer"
    assert infos[0].created_at.tzinfo is not None
    assert infos[0].created_at <= dt.datetime.now(dt.UTC)
    assert infos[0].display_preview.startswith("Do this then that")
    assert len(infos[0].display_preview) == 63
    assert store.get_latest_id() == "mine"
    assert len(store.list(limit=1)) == 1
    store.update_status("mine", "archived")
    assert store.info("mine").status == "archived"
    await second.close()


def test_an_empty_store_has_nothing(store: SessionStore) -> None:
    assert store.list() == []
    assert store.get_latest_id() is None
    assert not store.base_dir.exists(), "looking makes nothing"


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


def test_the_environment_may_say_where_sessions_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDOCK_SESSIONS_DIR", str(tmp_path / "here"))
    assert SessionStore().base_dir == tmp_path / "here"
    monkeypatch.delenv("PADDOCK_SESSIONS_DIR")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert SessionStore().base_dir == tmp_path / "paddock" / "sessions"


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
