"""Going on with a run that was decided and then failed: what has run is not run again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    ApprovalInterrupt,
    ModelError,
    ModelResponse,
    PermissionProfile,
    RunState,
    RuntimeOptions,
    ScriptedModel,
    Session,
    SessionError,
    SqliteRunStore,
    State,
    TextDelta,
    TraceError,
    create_runtime,
    run_prompt_stored,
)
from paddock.runtime.core.model import ToolCall, assistant_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from paddock import AgentEvent, ModelRequest, RunResult
    from paddock.runtime.core.model import Message, ModelEvent
    from tests.unit.runtime.conftest import OpenSession

pytestmark = pytest.mark.rows("O-20")

ASKING = PermissionProfile.from_dict(
    {"profile": "asking", "shell": {"mode": "unrestricted"}, "approval": {"mode": "all"}}
)
DEPLOY = {"tool_calls": [{"name": "bash", "arguments": {"command": "echo x >> ran"}}]}
BROKEN = {"error": "overloaded"}


@pytest.fixture
def store(tmp_path: Path) -> SqliteRunStore:
    return SqliteRunStore(tmp_path / "runs.db")


@pytest.fixture
def job(tmp_path: Path, store: SqliteRunStore) -> Callable[..., Any]:
    """``await job(turn, ..., decisions=...)`` is what a worker does, each time in a process
    of its own, with a model that gives these turns after the first."""

    def later(name: str, arguments: dict[str, Any]) -> bool:
        raise ApprovalInterrupt("a mail was sent")

    async def job(*turns: Any, **given: Any) -> RunResult:
        options = RuntimeOptions(profile=ASKING, working_dir=str(tmp_path / "work"))
        runtime = create_runtime("Deploy.", options=options, approval_callback=later)
        runtime.session._resources.given_client = ScriptedModel([DEPLOY, *turns])
        async with runtime:
            return await run_prompt_stored(
                runtime, "Go.", run_store=store, run_id="7",
                approval_decisions=given.get("decisions"), on_event=given.get("on_event"),
            )  # fmt: skip

    return job


async def decided(job: Callable[..., Any]) -> dict[str, bool]:
    waiting = await job()
    assert waiting.status == "interrupted"
    return {waiting.interruptions[0].tool_call_id: True}


async def test_a_stored_run_that_was_decided_and_failed_is_kept_and_gone_on_with(
    job: Callable[..., Any], store: SqliteRunStore, tmp_path: Path
) -> None:
    decisions = await decided(job)
    failed = await job(BROKEN, decisions=decisions)
    assert (failed.status, (tmp_path / "work" / "ran").read_text()) == ("error", "x\n")
    kept = await store.load("7")
    assert kept is not None
    assert kept == failed.state
    assert (kept.status, kept.pending_approvals) == ("error", ())
    # The worker's second try: as the first, decisions included.
    again = await job(BROKEN, decisions=decisions)
    assert again.status == "error"
    done = await job({"text": "It is out."}, decisions=decisions)
    assert (done.status, done.text) == ("completed", "It is out.")
    assert (tmp_path / "work" / "ran").read_text() == "x\n"
    assert await store.load("7") is None


async def test_a_stored_run_whose_worker_raises_is_kept_and_gone_on_with(
    job: Callable[..., Any], store: SqliteRunStore, tmp_path: Path
) -> None:
    def fail(event: AgentEvent) -> None:
        if event.type == "tool_end":
            raise RuntimeError("the screen is gone")

    decisions = await decided(job)
    with pytest.raises(RuntimeError, match="the screen is gone"):
        await job({"text": "Never said."}, decisions=decisions, on_event=fail)
    assert (await job({"text": "It is out."})).text == "It is out."
    assert (tmp_path / "work" / "ran").read_text() == "x\n"


async def test_a_decision_about_a_call_that_there_never_was_is_still_refused(
    job: Callable[..., Any], store: SqliteRunStore
) -> None:
    await job(BROKEN, decisions=await decided(job))
    before = await store.load("7")
    with pytest.raises(SessionError, match="no call of this session waits"):
        await job(decisions={"other": True})
    assert await store.load("7") == before


async def test_a_session_goes_on_with_a_run_that_failed_without_a_prompt(
    open_session: OpenSession, tmp_path: Path, check_history: Callable[[Sequence[Message]], None]
) -> None:
    answers = iter([BROKEN, {"text": "Here I am."}])
    session = open_session([lambda _request: next(answers)], session_dir=tmp_path)
    assert (await session.run("Hello?")).status == "error"
    result = await session.resume({})
    assert (result.status, result.text) == ("completed", "Here I am.")
    assert session.state.get_user_messages() == ["Hello?"]
    check_history(session.state.messages)
    with pytest.raises(SessionError, match="no call of this session waits"):
        await session.resume({})


async def test_a_session_without_a_run_has_nothing_to_go_on_with(
    open_session: OpenSession,
) -> None:
    with pytest.raises(SessionError, match="no call of this session waits"):
        await open_session([]).resume({})


class Stammering:
    """A model whose first answer breaks off."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked.append([message["role"] for message in request.messages])
        yield TextDelta(text="In ")
        if len(self.asked) == 1:
            raise ModelError("the connection broke")
        yield ModelResponse(text="In the lake.")

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_an_answer_that_was_cut_short_is_asked_for_again() -> None:
    model = Stammering()
    async with Session(Agent(AgentConfig(system_prompt="x")), client=model) as session:
        assert (await session.run("Where?")).status == "error"
        assert (await session.resume({})).text == "In the lake."
    assert model.asked[-1] == ["system", "user", "assistant", "user"]


def test_a_call_that_had_begun_is_told_as_unknown_and_not_left_to_run_again() -> None:
    state = State("s")
    call = ToolCall(id="a", name="bash", arguments="{}")
    state.replay(
        [
            {"type": "message", **assistant_message("", (call,))},
            {"type": "tool_start", "tool_call_id": "a"},
        ]
    )
    restored = RunState.of(state, "x").to_state()
    assert restored.open_calls == ()
    assert restored.messages[-1]["content"].startswith("Unknown: ")


def test_a_status_that_is_none_is_no_state() -> None:
    plain = RunState.of(State("s"), "x").to_dict()
    with pytest.raises(TraceError, match="status"):
        RunState.from_dict(json.loads(json.dumps({**plain, "status": "fine"})))
