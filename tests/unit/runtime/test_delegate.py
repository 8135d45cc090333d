"""Agents that work for an agent: what they get from it, what they cost it, how they end."""

from __future__ import annotations

import asyncio
import functools
import types
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from paddock import (
    Agent,
    AgentConfig,
    ApprovalInterrupt,
    Budget,
    CancellationToken,
    ConfigError,
    LocalBackend,
    PermissionProfile,
    SandboxError,
    ScriptedModel,
    Session,
    State,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)
from paddock.runtime.delegation import Delegation, conversation
from paddock.runtime.tools.delegate import DelegateHandler
from paddock.runtime.trace import read_records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
    from pathlib import Path

    from paddock import ModelRequest, RunResult
    from paddock.runtime.models.base import Message, ModelEvent
    from paddock.runtime.tools.child import ChildReport, ChildTask
    from tests.unit.runtime.conftest import CountingBackend

    CheckHistory = Callable[[Sequence[Message]], None]

USAGE = {"input_tokens": 100, "output_tokens": 10, "cost_usd": 0.25}
CHILD_USAGE = {"input_tokens": 7, "output_tokens": 3, "cost_usd": 0.5}


def delegating(instruction: str = "Count the files.", **arguments: Any) -> dict[str, Any]:
    call = {"name": "delegate", "arguments": {"instruction": instruction, **arguments}}
    return {"text": "I hand it on.", "tool_calls": [call], "usage": USAGE}


def running(command: str) -> dict[str, Any]:
    call = {"name": "bash", "arguments": {"command": command}}
    return {"tool_calls": [call], "usage": CHILD_USAGE}


class Two:
    """A model of two scripts: one for the agent that may delegate, one for the other."""

    def __init__(self, parent: Sequence[Any], child: Sequence[Any]) -> None:
        self._scripts = {True: ScriptedModel(parent), False: ScriptedModel(child)}
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        names = {tool["function"]["name"] for tool in request.tools}
        if "delegate" not in names:
            self.requests.append(request)
        async for event in self._scripts["delegate" in names].stream(request):
            yield event

    async def aclose(self) -> None:
        """There is nothing to close."""


def session_of(
    client: Two,
    *,
    directory: Path | None = None,
    handler: DelegateHandler | None = None,
    **config: Any,
) -> Session:
    agent = Agent(AgentConfig(**{"system_prompt": "Help.", "profile": "developer"} | config))
    if handler is not None:
        agent.registry.register(handler)
    return Session(agent, client=client, session_dir=directory)


def told(result: RunResult) -> tuple[str, dict[str, Any]]:
    """What the tool said, and its metadata."""
    (end,) = [event for event in result.events if event.type == "tool_end"]
    return end.tool_result or "", end.tool_metadata or {}


@pytest.mark.rows("S-50", "O-16")
async def test_a_child_works_in_the_sandbox_of_its_parent_and_its_answer_is_the_result(
    tmp_path: Path,
) -> None:
    client = Two(
        [delegating(), {"expect": "Two files", "text": "There are two.", "usage": USAGE}],
        [
            running("pwd; echo x > made"),
            {"expect": str(tmp_path), "text": "Two files.", "usage": CHILD_USAGE},
        ],
    )
    async with session_of(client, working_dir=str(tmp_path), model="one-model") as session:
        result = await session.run("How many?")
        sandbox = await session.get_sandbox()
        assert await sandbox.fs.read_text("made") == "x\n"
    assert (result.text, result.status) == ("There are two.", "completed")
    content, metadata = told(result)
    assert content == "Two files."
    assert (metadata["success"], metadata["child_status"]) == (True, "completed")
    assert metadata["child_session_id"] not in {"", session.id}
    assert metadata["child_usage"]["input_tokens"] == 14
    assert metadata["duration_seconds"] > 0
    first = client.requests[0]
    assert first.model == "one-model"
    assert [message["content"] for message in first.messages] == ["Help.", "Count the files."]
    names = {tool["function"]["name"] for tool in first.tools}
    assert names == set(session.registry) - {"delegate"}


@pytest.mark.rows("S-50")
async def test_what_a_child_uses_up_is_its_parents_in_result_state_trace_and_budget(
    tmp_path: Path,
) -> None:
    client = Two(
        [delegating(), {"text": "Done.", "usage": USAGE}],
        [running("true"), {"text": "Yes.", "usage": CHILD_USAGE}],
    )
    async with session_of(client, directory=tmp_path / "s") as session:
        result = await session.run("Go.", budget=Budget(turns=4))
    assert result.status == "completed"
    assert (result.usage["input_tokens"], result.usage["output_tokens"]) == (214, 26)
    assert result.usage["cost_usd"] == session.state.usage["cost_usd"] == 1.5
    assert session.state.last_input_tokens == 100
    trace = (tmp_path / "s" / "trace.jsonl").read_bytes()
    assert State.from_jsonl(trace).usage == session.state.usage
    kept = [each for each in read_records(trace).records if each["type"] == "child_llm_end"]
    assert [each["input_tokens"] for each in kept] == [7, 7]
    assert {each["child_session_id"] for each in kept} == {told(result)[1]["child_session_id"]}


@pytest.mark.rows("S-50")
async def test_a_budget_bounds_parent_and_child_together() -> None:
    client = Two([delegating(), {"text": "x"}], [running("true"), {"text": "Never said."}])
    async with session_of(client) as session:
        result = await session.run("Go.", budget=Budget(turns=2))
    content, metadata = told(result)
    assert metadata["child_status"] == result.status == "budget"
    assert not metadata["success"]
    assert "did not finish (budget: the budget of 2 model calls is used up: 2)" in content


@pytest.mark.rows("S-50")
async def test_full_context_is_a_copy_of_the_conversation_up_to_the_call(
    check_history: CheckHistory,
) -> None:
    client = Two(
        [{"text": "Hello."}, delegating(full_context=True), {"text": "Done."}],
        [{"text": "unused"}, {"text": "unused"}, {"text": "I know it all."}],
    )
    async with session_of(client) as session:
        await session.run("The word is plum.")
        result = await session.run("Go on.")
        check_history(session.state.messages)
    assert told(result)[0] == "I know it all."
    (request,) = client.requests
    assert [message["content"] for message in request.messages] == [
        "Help.",
        "The word is plum.",
        "Hello.",
        "Go on.",
        "I hand it on.",
        "Count the files.",
    ]
    check_history(request.messages[1:])
    assert len(session.state.messages) == 6


def test_a_conversation_is_cut_where_its_calls_are_open(check_history: CheckHistory) -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": "x", "arguments": "{}"}}
        for name in ("a", "b")
    ]
    whole: list[Message] = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
        {"role": "tool", "tool_call_id": "b", "content": "3"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "5"},
    ]
    assert conversation(whole) == whole
    assert conversation(whole)[1]["tool_calls"][0] is not calls[0]
    half = [*whole, {"role": "assistant", "content": None, "tool_calls": calls}, whole[2]]
    assert conversation(half) == whole
    check_history(conversation(half))
    assert conversation([]) == []


@pytest.mark.rows("S-50")
@pytest.mark.parametrize("instruction", ["", " \n"])
async def test_an_empty_instruction_is_refused(instruction: str) -> None:
    client = Two([delegating(instruction), {"text": "Oh."}], [])
    async with session_of(client) as session:
        result = await session.run("Go.")
    content, metadata = told(result)
    assert content == "The instruction is empty: say what to do."
    assert metadata["success"] is False
    assert client.requests == []


class Touch(ToolHandler):
    name = "touch"
    description = "Says which sandbox it is in."
    parameters: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}}

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        assert invocation.context is not None
        return ToolOutput((await invocation.context.sandbox()).id)


@pytest.mark.rows("S-50")
async def test_a_child_with_a_sandbox_of_its_own_takes_it_down(backend: CountingBackend) -> None:
    client = Two(
        [delegating(), {"text": "Done."}],
        [{"tool_calls": [{"name": "touch"}]}, {"expect": "counting", "text": "Touched."}],
    )
    async with session_of(
        client, handler=DelegateHandler(sandbox="own"), backend=backend
    ) as session:
        session.registry.register(Touch())
        ours = await session.get_sandbox()
        assert told(await session.run("Go."))[0] == "Touched."
        assert len(backend.made) == 2
        assert backend.live == [ours]
    assert backend.live == []


@pytest.mark.rows("S-50")
async def test_a_shared_sandbox_that_cannot_be_made_ends_the_run_as_it_does_without_a_child(
    backend: CountingBackend,
) -> None:
    broken = replace(backend, error=SandboxError("no room"))
    client = Two([delegating(), {"text": "x"}], [running("true"), {"text": "x"}])
    async with session_of(client, backend=broken) as session:
        with pytest.raises(SandboxError, match="no room"):
            await session.run("Go.")
    assert session.state.status == "error"


ASKING = PermissionProfile.from_dict(
    {
        "profile": "asking",
        "shell": {"mode": "unrestricted"},
        "file_write": {"mode": "full"},
        "approval": {"mode": "granular", "required_tools": ["bash"]},
    }
)


@pytest.mark.rows("S-50")
async def test_a_child_asks_its_parents_callback_and_two_of_them_in_turn() -> None:
    asked: list[str] = []
    asking = 0

    async def approve(name: str, arguments: dict[str, Any]) -> bool:
        nonlocal asking
        asking += 1
        assert asking == 1, "a person reads one question at a time"
        await asyncio.sleep(0)
        asking -= 1
        asked.append(name)
        return True

    twice = delegating()
    twice["tool_calls"] = twice["tool_calls"] * 2
    client = Two(
        [twice, {"text": "Done."}], [running("echo ran"), {"expect": "ran", "text": "Ran."}]
    )
    async with session_of(client, profile=ASKING) as session:
        session.approval_callback = approve
        result = await session.run("Go.")
    assert result.text == "Done."
    assert asked == ["bash", "bash"]


@pytest.mark.rows("S-50")
@pytest.mark.parametrize("by_callback", [True, False])
async def test_a_call_that_nobody_can_approve_now_ends_the_child_and_the_parent_is_told(
    by_callback: bool,
) -> None:
    def later(name: str, arguments: dict[str, Any]) -> bool:
        raise ApprovalInterrupt("not now")

    itself = {"expect": "Make them yourself", **running("echo ran")}
    client = Two(
        [delegating(), itself, {"expect": "ran", "text": "I did it."}], [running("echo ran")]
    )
    async with session_of(client, profile=ASKING, auto_approve=False) as session:
        session.approval_callback = later if by_callback else None
        result = await session.run("Go.")
        content, metadata = told(result)
        assert (metadata["child_status"], metadata["success"]) == ("interrupted", False)
        assert '- bash {"command": "echo ran"}' in content
        assert result.status == "interrupted"
        (waiting,) = result.interruptions
        resumed = await session.resume({waiting.tool_call_id: True})
    assert resumed.text == "I did it."


@pytest.mark.rows("S-50", "O-16")
@pytest.mark.parametrize("how", ["token", "task", "cancel_check"])
async def test_cancelling_the_parent_ends_the_child_and_leaves_nothing(
    how: str, tmp_path: Path, check_history: CheckHistory
) -> None:
    client = Two([delegating()], [running("touch began; exec sleep 987")])
    token, wanted = CancellationToken(), asyncio.Event()
    backend = LocalBackend(isolation="none", working_dir=str(tmp_path))
    async with session_of(client, backend=backend, directory=tmp_path / "s") as session:
        session.cancel_check = wanted.is_set
        sandbox = await session.get_sandbox()
        run = asyncio.create_task(session.run("Go.", token=token))
        async with asyncio.timeout(20):
            await sandbox.exec("until [ -e began ]; do sleep 0.01; done", check=True)
            match how:
                case "token":
                    token.cancel("enough")
                case "task":
                    run.cancel()
                case _:
                    wanted.set()
            await asyncio.wait([run])
        assert session.state.status == "cancelled"
        left = await sandbox.exec("ps -eo args | grep '[s]leep 987' || echo none")
        assert left.stdout == "none\n"
        check_history(session.state.messages)
        assert session.state.usage["input_tokens"] == 107
    if how == "task":
        assert run.cancelled()
    else:
        assert run.result().usage["input_tokens"] == 107


@types.coroutine
def struck(
    work: Coroutine[Any, Any, Any], step: int, strike: Callable[[], object], waits: list[None]
) -> Generator[Any, Any, Any]:
    """Await `work`; `strike` comes when it waits for the `step`-th time. `waits` counts."""
    inner = work.__await__()
    go_on: Callable[[], Any] = functools.partial(next, inner)
    while True:
        try:
            waited_for = go_on()
        except StopIteration as end:
            return end.value
        waits.append(None)
        if len(waits) == step:
            asyncio.get_running_loop().call_soon(strike)
        try:
            go_on = functools.partial(inner.send, (yield waited_for))
        except BaseException as error:
            go_on = functools.partial(inner.throw, error)


@pytest.mark.rows("S-50", "C46")
@pytest.mark.parametrize("how", ["session", "task"])
@pytest.mark.parametrize("sandbox", ["shared", "own"])
async def test_a_parent_that_is_cancelled_at_any_await_of_its_child_leaves_nothing(
    backend: CountingBackend,
    check_history: CheckHistory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    sandbox: Literal["shared", "own"],
) -> None:
    whole, step, reached = Delegation.run, 0, True
    touching = {"tool_calls": [{"name": "touch"}], "usage": CHILD_USAGE}
    while reached:
        step += 1
        client = Two([delegating(), {"text": "Done."}], [touching, {"text": "Touched."}])
        handler = DelegateHandler(sandbox=sandbox)
        directory = tmp_path / str(step)
        session = session_of(client, handler=handler, backend=backend, directory=directory)
        session.registry.register(Touch())
        running, waits = asyncio.create_task(session.run("Go.")), list[None]()
        strike = session.cancel if how == "session" else running.cancel

        async def run(self: Delegation, task: ChildTask, at: tuple[Any, ...]) -> ChildReport:
            report: ChildReport = await struck(whole(self, task), *at)
            return report

        at = (step, strike, waits)
        monkeypatch.setattr(Delegation, "run", functools.partialmethod(run, at=at))
        await asyncio.wait([running])
        reached = len(waits) >= step
        assert session.state.status == ("cancelled" if reached else "completed")
        check_history(session.state.messages)
        loaded = State.from_jsonl((directory / "trace.jsonl").read_bytes())
        assert (loaded.messages, loaded.usage) == (session.state.messages, session.state.usage)
        await session.close()
        assert not backend.live
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert step > 6


async def test_a_childs_commands_get_the_runs_secrets_and_its_model_does_not() -> None:
    client = Two(
        [delegating(), {"text": "Done."}],
        [
            running('echo "$KEY"; test ${#KEY} = 18 && echo same'),
            {"expect": "same", "text": "Same."},
        ],
    )
    async with session_of(client) as session:
        result = await session.run("Go.", secrets={"KEY": "very-secret-indeed"})
        sandbox = await session.get_sandbox()
        assert (await sandbox.exec('echo "-$KEY-"')).stdout == "--\n"
    assert told(result)[0] == "Same."
    assert "very-secret-indeed" not in repr(client.requests)


def test_a_sandbox_that_is_neither_shared_nor_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="not 'owned'"):
        DelegateHandler(sandbox="owned")  # type: ignore[arg-type]


async def test_a_tool_that_runs_agents_says_so_outside_a_session() -> None:
    call = ToolInvocation("1", "delegate", {"instruction": "x"})
    with pytest.raises(RuntimeError, match="needs a session"):
        await DelegateHandler().handle(call)


async def test_agents_that_work_at_once_make_no_more_model_calls_than_the_budget_has() -> None:
    calls = [call for number in range(8) for call in delegating(str(number))["tool_calls"]]
    client = Two([{"tool_calls": calls}], [{"text": "Done."}] * 8)
    async with session_of(client, handler=DelegateHandler()) as session:
        result = await session.run("Go.", budget=Budget(turns=3))
    assert result.status == "budget"
    assert len(client.requests) == 2, "the third was the parent's"


async def test_a_delegate_has_ended_before_its_parents_run_whatever_its_tool_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("paddock.runtime.execution.TOOL_PATIENCE", 0.05)
    working, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(ToolHandler):
        name = "slow"
        description = "Takes its time to end."
        parameters: ClassVar[dict[str, Any]] = {"type": "object"}

        async def handle(self, invocation: ToolInvocation) -> ToolOutput:
            working.set()
            try:
                await asyncio.Event().wait()
            finally:
                await may_end.wait()
                ended.set()
            return ToolOutput(content="never")

    client = Two([delegating()], [{"tool_calls": [{"name": "slow", "arguments": {}}]}])
    async with session_of(client, handler=DelegateHandler()) as session:
        session.registry.register(Slow())
        run = asyncio.create_task(session.run("Go."))
        async with asyncio.timeout(10):
            await working.wait()
            session.cancel()
            assert (await run).status == "cancelled"
            may_end.set()
            await ended.wait()
    left = [record.getMessage() for record in caplog.records if "did not end" in record.msg]
    assert left == ["tool slow did not end when it was cancelled"], "the delegate is not one"


async def test_secrets_of_a_run_are_taken_back_from_a_sandbox_that_only_a_child_used() -> None:
    client = Two([delegating(), {"text": "Done."}], [running("true"), {"text": "Ran."}])
    async with session_of(client, handler=DelegateHandler()) as session:
        await session.run("Go.", secrets={"RUN_TOKEN": "only-for-this-run"})
        sandbox = await session._sandbox.get()
        assert not sandbox.secrets
