"""Sessions with a long trace: it is read off the event loop, when it is needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import SessionLocked, TraceError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation import trace as traces
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.trace import PIECE, encode_record
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.runtime.session.store import SessionStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import CountingBackend

MESSAGES = 2 * 20


@pytest.fixture
def agent(backend: CountingBackend) -> Agent:
    return Agent(AgentConfig(system_prompt="Help.", backend=backend))


@pytest.fixture
async def store(tmp_path: Path, agent: Agent) -> SessionStore:
    """One with the session ``long``, whose trace has some pieces."""
    store = SessionStore(tmp_path / "sessions")
    async with store.create_session(agent, session_id="long", client=ScriptedModel([])):
        with (store.base_dir / "long" / "trace.jsonl").open("ab") as trace:
            for number in range(MESSAGES // 2):
                for role in ("user", "assistant"):
                    content = str(number).ljust(PIECE // 10)
                    message = {"type": "message", "role": role, "content": content}
                    trace.write(encode_record(message))
    return store


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that long parts of a trace were decoded in."""
    threads: set[int] = set()
    decode = traces.read_records

    def read_records(data: bytes, **options: Any) -> Any:
        if len(data) > PIECE // 2:
            threads.add(threading.get_ident())
        return decode(data, **options)

    monkeypatch.setattr(traces, "read_records", read_records)
    return threads


def resume(store: SessionStore, agent: Agent) -> Session:
    session = store.resume("long", agent, client=ScriptedModel([{"text": "Hi."}] * MESSAGES))
    session.auto_compact = False
    return session


async def test_a_run_reads_a_long_trace_in_threads(
    store: SessionStore, agent: Agent, decoders: set[int]
) -> None:
    async with resume(store, agent) as session:
        assert not decoders
        result = await session.run("Hello.")
        assert result.text == "Hi.", result
        assert decoders
        assert threading.get_ident() not in decoders
        assert len(session.state.messages) == MESSAGES + 2


async def test_a_long_trace_is_read_before_the_state_is_looked_at(
    store: SessionStore, agent: Agent, decoders: set[int]
) -> None:
    async with resume(store, agent) as session:
        assert len(session.state.messages) == MESSAGES
        assert threading.get_ident() in decoders


async def test_a_long_trace_can_be_loaded_without_holding_up_the_loop(
    store: SessionStore, agent: Agent, decoders: set[int]
) -> None:
    async with resume(store, agent) as session:
        assert len((await session.load()).messages) == MESSAGES
        assert threading.get_ident() not in decoders
        assert session.state.messages[-1]["content"].startswith(str(MESSAGES // 2 - 1))


async def test_a_long_trace_that_another_writes_cannot_be_resumed(
    store: SessionStore, agent: Agent
) -> None:
    async with resume(store, agent) as session, session.stream("Hello.") as events:
        async for _ in events:
            with pytest.raises(SessionLocked):
                resume(store, agent)


async def test_a_long_trace_that_is_damaged_is_an_error_where_it_is_read(
    store: SessionStore, agent: Agent
) -> None:
    path = store.base_dir / "long" / "trace.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"role"', b'"rule"', 1))
    async with resume(store, agent) as session:
        with pytest.raises(TraceError, match="damaged in line 1"):
            await session.run("Hello.")


async def test_a_long_state_is_written_to_a_new_trace_in_a_thread(
    store: SessionStore, agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    snapshot = State.snapshot

    def noted(state: State) -> Any:
        threads.add(threading.get_ident())
        return snapshot(state)

    monkeypatch.setattr(State, "snapshot", noted)
    state = store.load_state("long")
    client = ScriptedModel([{"text": "Hi."}] * MESSAGES)
    async with Session(agent, state=state, session_dir=tmp_path / "new", client=client) as session:
        session.auto_compact = False
        await session.run("Hello.")
    assert threads
    assert threading.get_ident() not in threads
    loaded = State.from_jsonl((tmp_path / "new" / "trace.jsonl").read_bytes())
    assert loaded.messages == session.state.messages
