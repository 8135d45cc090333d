"""Every store of conversations gives back what was put into it, from its beginning on."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock import (
    Agent,
    AgentConfig,
    ConfigError,
    LocalBackend,
    MemoryConversationStore,
    ScriptedModel,
    Session,
    SessionError,
    SessionLocked,
    SqliteConversationStore,
    State,
)
from paddock.runtime.conversation.claimed import ClaimedConversationStore
from paddock.runtime.conversation.state import stamped
from paddock.runtime.conversation.traces import DirectoryConversationStore
from paddock.runtime.orchestration.store import TenantStore
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from tests.unit.runtime.conftest import FunctionTool
from tests.unit.runtime.deploying import TURNS, Deploys, echo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock import AgentEvent, ConversationLog, ConversationStore, ToolHandler

STORES = [
    pytest.param(lambda _: MemoryConversationStore(), id="memory"),
    pytest.param(DirectoryConversationStore, id="directory"),
    pytest.param(lambda path: SqliteConversationStore(path / "c.db"), id="sqlite"),
    pytest.param(
        lambda _: TenantStore(MemoryRuntimeStore(), "acme").conversations, id="tenant, memory"
    ),
]

texts = st.text(max_size=20)


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The records of one answer with its calls and some of their results."""
    number = draw(st.integers(0, 10**9))
    ids = [f"c{number}_{n}" for n in range(draw(st.integers(0, 3)))]
    calls = [
        {"id": each, "type": "function", "function": {"name": "bash", "arguments": draw(texts)}}
        for each in ids
    ]
    answer: dict[str, Any] = {"type": "message", "role": "assistant", "content": draw(texts)}
    records: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": draw(texts)}]
    records.append(answer | ({"tool_calls": calls} if calls else {}))
    records.append({"type": "llm_end", "model": "m", "input_tokens": draw(st.integers(0, 99))})
    for each in draw(st.permutations(ids)):
        if draw(st.booleans()):
            records.append({"type": "tool_start", "tool_call_id": each, "tool_name": "bash"})
        if draw(st.booleans()):
            result = {"type": "message", "role": "tool", "tool_call_id": each}
            records.append(result | {"content": draw(texts)})
    return records


histories = st.lists(turns(), max_size=4).map(lambda found: [*itertools.chain(*found)])


def told(state: State) -> dict[str, Any]:
    """What a conversation is, without where it is kept."""
    return {
        name: value
        for name, value in vars(state).items()
        if name not in {"trace_end", "_observers"}
    }


def folded(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    state = State()
    state.replay(records)
    return told(state)


def found(store: ConversationStore) -> dict[str, Any]:
    return told(store.read("one") or State())


@pytest.mark.parametrize("make", STORES)
@given(records=histories, cut=st.integers(0, 40))
async def test_a_history_comes_back_as_it_was_in_two_parts_or_one(
    tmp_path_factory: pytest.TempPathFactory,
    make: Callable[[Path], ConversationStore],
    records: list[dict[str, Any]],
    cut: int,
) -> None:
    store = make(tmp_path_factory.mktemp("stores"))
    ends = []
    for part in (records[:cut], records[cut:]):
        log = store.open("one")
        for record in part:
            log.append(stamped(record))
        await log.sync()
        ends.append(log.end)
        log.close()
    assert found(store) == folded(records)
    log = store.open("one", start=ends[0])
    later = State()
    later.replay(records[:cut])
    later.replay(log.found)
    assert told(later) == folded(records)
    assert log.end == ends[1]
    log.close()
    assert (store.read("one") is None) == (not records)


@pytest.mark.parametrize("make", STORES[1:])
@pytest.mark.parametrize("synced", range(5))
async def test_what_a_dead_writer_leaves_is_a_beginning_that_can_be_continued(
    tmp_path: Path, make: Callable[[Path], ConversationStore], synced: int
) -> None:
    records = [{"type": "message", "role": "user", "content": str(number)} for number in range(6)]
    for written in range(synced, 5):
        store = make(tmp_path / str(written))
        log = store.open("one")
        for number, record in enumerate(records[:written]):
            if number == synced:
                await log.sync()
            log.append(stamped(record))
        if written == synced:
            await log.sync()
        die(store, log)
        there = found(store)
        assert there in [folded(records[:number]) for number in range(synced, written + 1)]
        log = store.open("one")
        log.append(stamped(records[5]))
        log.close()
        assert found(store)["messages"] == [*there["messages"], told_message(records[5])]


def die(store: ConversationStore, log: ConversationLog) -> None:
    """End the process that has `log`, as far as others can see."""
    if isinstance(store, ClaimedConversationStore):
        store.transact(lambda rows: rows.set_claim("one", None))
    else:
        log.close()


def told_message(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "type"}


@pytest.mark.parametrize("make", STORES)
async def test_one_writer_holds_a_conversation_and_everybody_may_read_it(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    store = make(tmp_path)
    assert store.read("one") is None
    log = store.open("one")
    with pytest.raises(SessionLocked):
        store.open("one")
    store.open("two").close()
    log.append(stamped({"type": "message", "role": "user", "content": "Hello?"}))
    await log.sync()
    assert found(store)["messages"] == [{"role": "user", "content": "Hello?"}]
    log.close()
    log.close()
    store.open("one").close(delete=True)
    assert store.read("one") is None


@pytest.mark.parametrize("make", STORES)
async def test_a_call_is_kept_before_anybody_is_shown_that_it_begins(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    store = make(tmp_path)
    kept: list[str] = []

    def show(event: AgentEvent) -> None:
        if event.type == "tool_start":
            state = store.read("one")
            assert state is not None
            kept.extend(call.name for call in state.open_calls if call.started)

    agent = Agent(AgentConfig(system_prompt="Help."))
    agent.registry.register(FunctionTool(echo))
    model = ScriptedModel([{"tool_calls": [{"name": "echo"}]}, {"text": "Done."}])
    async with Session(agent, session_id="one", store=store, client=model) as session:
        await session.run("Go.", on_event=show)
    assert kept == ["echo"]


@pytest.mark.parametrize("make", STORES)
async def test_a_session_is_continued_from_its_store_with_the_same_state(
    tmp_path: Path,
    make: Callable[[Path], ConversationStore],
    deploys: Deploys,
    asking: Callable[[Any], ToolHandler],
) -> None:
    store = make(tmp_path)

    def session() -> Session:
        agent = Agent(AgentConfig(system_prompt="Help.", auto_approve=False))
        agent.registry.register(FunctionTool(echo))
        agent.registry.register(asking(deploys.deploy))
        return Session(agent, session_id="one", store=store, client=ScriptedModel(TURNS))

    first = session()
    result = await first.run("Deploy.")
    assert result.status == "interrupted"
    assert found(store) == told(first.state)
    second = session()
    second.recover()
    assert told(second.state) == told(first.state)
    decisions = {item.tool_call_id: True for item in second.state.pending_approvals}
    assert (await second.resume(decisions)).status == "completed"
    assert found(store) == told(second.state)
    with pytest.raises(SessionError):
        await first.resume(decisions)


async def test_a_store_that_the_sandbox_could_write_is_refused(tmp_path: Path) -> None:
    store = SqliteConversationStore(tmp_path / "conversations.db")
    config = AgentConfig(backend=LocalBackend(working_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match="choose a file elsewhere"):
        Session(Agent(config), store=store)
    session = Session(Agent(AgentConfig()), store=store)
    with pytest.raises(ConfigError, match="choose a file elsewhere"):
        session.use(Agent(config))
