"""Runs that several workers share: one goes on with a run, and another when that one died."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock import (
    Agent,
    AgentConfig,
    ConfigError,
    MemoryConversationStore,
    ModelResponse,
    RunClaimed,
    RunResult,
    RuntimeOptions,
    ScriptedModel,
    Session,
    SessionError,
    SqliteRunStore,
    ToolCall,
    create_runtime,
    run_prompt_stored,
)
from paddock.runtime.conversation import claimed
from paddock.runtime.core import claims
from paddock.runtime.core.claims import CLAIM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from typing import Any

    from paddock import ConversationLog, ConversationStore, ModelClient, ModelEvent, ModelRequest

pytestmark = pytest.mark.rows("O-20")

RUN = {"tool_calls": [{"name": "bash", "arguments": {"command": "echo x >> ran"}}]}
DONE = {"text": "It is out."}

WORKER = """
import asyncio, os, sys
from paddock import *

options = RuntimeOptions(model="scripted:model.yaml", profile="unrestricted", working_dir="work")
end = sys.argv[1]

def die(event):
    if event.type == end:
        os._exit(9)

async def main():
    async with create_runtime("x", options=options) as runtime:
        store = SqliteRunStore("runs.db")
        await run_prompt_stored(runtime, "Go.", run_store=store, run_id="7", on_event=die)

asyncio.run(main())
"""


class Answering:
    """A model that awaits what it says."""

    def __init__(self, answer: Callable[[], Awaitable[ModelResponse]]) -> None:
        self._answer = answer

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield await self._answer()

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.fixture
def store(tmp_path: Path) -> SqliteRunStore:
    return SqliteRunStore(tmp_path / "runs.db")


@pytest.fixture
def work(tmp_path: Path, store: SqliteRunStore) -> Callable[..., Any]:
    """``await work(turn, ...)`` is what a worker does, with a model of these turns."""

    async def work(
        *turns: Any,
        model: ModelClient | None = None,
        kept_in: ConversationStore = store,
    ) -> RunResult:
        options = RuntimeOptions(profile="unrestricted", working_dir=str(tmp_path / "work"))
        runtime = create_runtime("x", options=options)
        runtime.session._resources.given_client = model or ScriptedModel(turns)
        async with runtime:
            return await run_prompt_stored(runtime, "Go.", run_store=kept_in, run_id="7")

    return work


def expire(store: SqliteRunStore) -> None:
    """The time for which the claims hold is over."""
    change_claims(store, "until = 0")


def move(store: SqliteRunStore) -> None:
    """The claims are those of a process of another machine."""
    change_claims(store, "holder = 'elsewhere/' || holder")


def change_claims(store: SqliteRunStore, change: str) -> None:
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        connection.execute(f"UPDATE conversation_claims SET {change}")
        connection.commit()


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        pytest.param("text", ["system", "user"], id="before a call had begun"),
        pytest.param("tool_end", ["system", "user", "assistant", "tool"], id="after it"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
async def test_a_worker_that_is_killed_loses_nothing_and_nothing_runs_again(
    work: Callable[..., Any],
    store: SqliteRunStore,
    tmp_path: Path,
    end: str,
    kept: list[str],
    elsewhere: bool,
) -> None:
    (tmp_path / "model.yaml").write_text(
        "- text: I do it.\n  tool_calls: [{name: bash, arguments: {command: echo x >> ran}}]\n"
        "- {text: Never said.}\n"
    )
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", WORKER, end], cwd=tmp_path, check=False
    )
    assert died.returncode == 9
    if elsewhere:  # nobody here can see that it died
        move(store)
        with pytest.raises(RunClaimed, match=r"the run '7'; if it has died, try again in \d+ s"):
            await work(DONE)
        expire(store)
    asked: list[str] = []

    def answer(request: Any) -> dict[str, str]:
        asked.extend(message["role"] for message in request.messages)
        return DONE

    result = await work(answer, answer)
    assert (result.status, result.text) == ("completed", "It is out.")
    assert asked == kept
    ran = tmp_path / "work" / "ran"
    assert (ran.read_text() if ran.exists() else "") == ("x\n" if "tool" in kept else "")
    assert await store.load("7") is None


async def test_the_claim_of_a_worker_that_works_is_renewed(
    work: Callable[..., Any], store: SqliteRunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = asyncio.Event(), claimed._ClaimedLog.sync

    async def noting(self: claimed._ClaimedLog) -> None:
        await sync(self)
        synced.set()

    async def answer() -> ModelResponse:
        expire(store)
        synced.clear()
        await asyncio.wait_for(synced.wait(), 60)
        with pytest.raises(RunClaimed):
            await asyncio.to_thread(store.open, "7")
        return ModelResponse(text="It is out.")

    monkeypatch.setattr(claimed._ClaimedLog, "sync", noting)
    monkeypatch.setattr(claims, "RENEWALS", CLAIM / 0.05)
    assert (await work(model=Answering(answer))).status == "completed"


async def test_a_worker_whose_claim_was_taken_ends_and_keeps_nothing(
    work: Callable[..., Any], store: SqliteRunStore, tmp_path: Path
) -> None:
    theirs: list[ConversationLog] = []

    async def answer() -> ModelResponse:
        expire(store)
        theirs.append(await asyncio.to_thread(store.open, "7"))
        call = ToolCall(id="c", name="bash", arguments='{"command": "echo x >> ran"}')
        return ModelResponse(text="", tool_calls=(call,))

    with pytest.raises(RunClaimed, match="another worker has claimed the run '7'"):
        await work(model=Answering(answer))
    assert not (tmp_path / "work" / "ran").exists(), "no call has begun"
    await theirs[0].sync()
    theirs[0].close()


async def test_a_run_that_fails_is_kept_and_its_calls_do_not_run_again(
    work: Callable[..., Any], store: SqliteRunStore, tmp_path: Path
) -> None:
    assert (await work(RUN, {"error": "overloaded"})).status == "error"
    kept = await store.load("7")
    assert kept is not None
    assert kept.status == "error"
    assert (await work(RUN, DONE)).text == "It is out."
    assert (tmp_path / "work" / "ran").read_text() == "x\n"


async def test_a_conversation_is_for_one_of_many_and_free_when_it_is_closed(
    store: SqliteRunStore,
) -> None:
    asked = [asyncio.to_thread(store.open, "7") for _ in range(8)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    (log,) = [each for each in found if not isinstance(each, BaseException)]
    assert all(isinstance(each, RunClaimed) for each in found if each is not log)
    expire(store)
    other = store.open("7")
    with pytest.raises(RunClaimed):
        log.close()
    other.close()
    other.close()
    store.open("7").close()


async def test_a_run_is_not_kept_in_two_places(store: SqliteRunStore, tmp_path: Path) -> None:
    agent = Agent(AgentConfig(system_prompt="x"))
    kept = create_runtime("x", session=Session(agent, session_dir=tmp_path / "one"))
    with pytest.raises(SessionError, match="is kept somewhere else already"):
        await run_prompt_stored(kept, "Go.", run_store=store, run_id="7")
    with pytest.raises(ConfigError, match="not in both"):
        Session(agent, session_dir=tmp_path / "one", store=store)
    talked = create_runtime("x", session=Session(agent, client=ScriptedModel([DONE, DONE])))
    waiting = Session(agent, client=ScriptedModel([{"error": "overloaded"}]))
    runtime = create_runtime("x", session=waiting)
    await run_prompt_stored(runtime, "Go.", run_store=store, run_id="7")
    await talked.session.run("Hello.")
    with pytest.raises(SessionError, match="has another conversation than this run"):
        await run_prompt_stored(talked, "Go.", run_store=store, run_id="7")


async def test_runs_may_be_kept_in_memory(work: Callable[..., Any]) -> None:
    store = MemoryConversationStore()
    assert (await work(RUN, {"error": "overloaded"}, kept_in=store)).status == "error"
    waiting = store.read("7")
    assert waiting is not None
    assert waiting.system_prompt == "x"
    assert (await work(RUN, DONE, kept_in=store)).text == "It is out."
    assert store.read("7") is None
