"""The service's face: telemetry, delegation, and runs that wait for somebody."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    ApprovalInterrupt,
    Budget,
    ObservabilityInitializationError,
    PermissionProfile,
    RunState,
    RuntimeOptions,
    ScriptedModel,
    Session,
    SessionError,
    SqliteRunStore,
    TelemetryStorage,
    TraceError,
    close_runtime,
    create_runtime,
    dispatch_prompt,
    reconfigure_runtime,
    run_prompt,
    run_prompt_stored,
    session_usage,
    start_runtime,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from paddock import AgentRuntime

ASKING = PermissionProfile.from_dict(
    {"profile": "asking", "shell": {"mode": "unrestricted"}, "approval": {"mode": "all"}}
)
USAGE = {"input_tokens": 7, "output_tokens": 2, "cost_usd": 0.5}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("OBSERVABILITY_CONFIG", "TEAM_ID", "PROJECT_ID", "PROFILE", "BACKEND"):
        monkeypatch.delenv(f"PADDOCK_{name}", raising=False)


def scripted(runtime: AgentRuntime, script: Sequence[Any]) -> AgentRuntime:
    """The same runtime, whose model is a script."""
    runtime.session._resources.given_client = ScriptedModel(script)
    return runtime


def bash(command: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": "bash", "arguments": {"command": command}}], "usage": USAGE}


def later(name: str, arguments: dict[str, Any]) -> bool:
    raise ApprovalInterrupt("ask again tomorrow")


def observed(tmp_path: Path, **options: Any) -> RuntimeOptions:
    config = tmp_path / "observability.yaml"
    config.write_text(json.dumps({"backend": {"sqlite": {"path": str(tmp_path / "t.db")}}}))
    known = {"team_id": "acme", "project_id": "response", "observability_config": str(config)}
    return RuntimeOptions(**known | {"profile": "developer"} | options)


# ----------------------------------------------------------------------- telemetry


@pytest.mark.rows("O-6", "O-7", "O-10", "O-12")
async def test_telemetry_is_kept_for_a_tenant_and_says_who_cancelled(tmp_path: Path) -> None:
    options = observed(tmp_path, telemetry_metadata={"job_id": "job-123"})
    runtime = scripted(create_runtime("x", options=options), [bash("sleep 99")])
    assert runtime.observability is not None
    await start_runtime(runtime)
    await start_runtime(runtime)
    handle = dispatch_prompt(runtime, "Go.")
    await runtime.session.get_sandbox()
    handle.cancel("timeout exceeded")
    handle.cancel("again")
    assert (await handle.wait()).status == "cancelled"
    handle.cancel("too late")
    reconfigure_runtime(runtime, profile="readonly")
    await close_runtime(runtime, "cancelled")
    with TelemetryStorage(tmp_path / "t.db", read_only=True) as storage:
        (row,) = storage.list_sessions(limit=5)
    assert (row["session_id"], row["status"]) == (runtime.session_id, "cancelled")
    assert (row["team_id"], row["project_id"], row["profile"]) == ("acme", "response", "readonly")
    assert row["metadata"] == {
        "job_id": "job-123",
        "cancel_source": "programmatic",
        "cancel_reason": "timeout exceeded",
    }


@pytest.mark.rows("O-6")
@pytest.mark.parametrize("known", [{}, {"team_id": "acme"}, {"project_id": "response"}])
async def test_there_is_no_telemetry_without_a_tenant(known: dict[str, str]) -> None:
    async with create_runtime("x", options=RuntimeOptions(**known)) as runtime:  # type: ignore[arg-type]
        assert runtime.observability is None


@pytest.mark.rows("O-1", "O-6")
def test_telemetry_that_cannot_be_is_an_error_that_says_whose(tmp_path: Path) -> None:
    options = observed(tmp_path, observability_config=str(tmp_path / "missing.yaml"))
    with pytest.raises(ObservabilityInitializationError, match=r"missing\.yaml") as raised:
        create_runtime("x", options=options)
    assert raised.value.config_path == str(tmp_path / "missing.yaml")
    assert (raised.value.team_id, raised.value.project_id) == ("acme", "response")


@pytest.mark.rows("O-14", "O-18")
@pytest.mark.parametrize("named_by_the_environment", [True, False])
def test_the_tenant_of_a_file_goes_before_the_options_unless_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by_the_environment: bool
) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("tenant: {team_id: of-the-file, project_id: of-the-file}\n")
    if named_by_the_environment:
        monkeypatch.setenv("PADDOCK_OBSERVABILITY_CONFIG", str(file))
        options = RuntimeOptions(team_id="of-the-options")
    else:
        options = RuntimeOptions(team_id="of-the-options", observability_config=str(file))
    runtime = create_runtime("x", options=options)
    assert runtime.options.observability_config == str(file)
    assert runtime.observability is not None
    found = runtime.observability.config
    team = "of-the-options" if named_by_the_environment else "of-the-file"
    assert (found.team_id, found.project_id, found.path) == (team, "of-the-file", file)


@pytest.mark.rows("S-50")
async def test_telemetry_counts_what_a_child_used_up(tmp_path: Path) -> None:
    def turn(request: Any) -> dict[str, Any]:
        if any(tool["function"]["name"] == "delegate" for tool in request.tools):
            arguments = {"instruction": "Help me."}
            return {"tool_calls": [{"name": "delegate", "arguments": arguments}], "usage": USAGE}
        return {"text": "Helped.", "usage": {"input_tokens": 100, "output_tokens": 1}}

    runtime = create_runtime("x", options=observed(tmp_path))
    async with scripted(runtime, [turn, {"expect": "Helped", "text": "Done.", "usage": USAGE}]):
        await run_prompt(runtime, "Go.")
    with TelemetryStorage(tmp_path / "t.db", read_only=True) as storage:
        (row,) = storage.list_sessions(limit=5)
        detail = storage.get_session(runtime.session_id)
    assert (row["total_input_tokens"], row["total_output_tokens"]) == (114, 5)
    assert detail is not None
    assert [turn["context_size"] for turn in detail["turns"]] == [7]


# ---------------------------------------------------------------------- delegation


@pytest.mark.rows("O-16", "O-13")
def test_the_delegate_tool_is_there_if_the_options_say_so() -> None:
    runtime = create_runtime("x", options=RuntimeOptions(profile="readonly"))
    assert "delegate" in runtime.registry
    assert runtime.registry.requires_approval("delegate", {"instruction": "x"})
    reconfigure_runtime(runtime, enable_delegate=False)
    assert "delegate" not in runtime.registry
    reconfigure_runtime(runtime, profile="developer")
    assert "delegate" not in runtime.registry
    reconfigure_runtime(runtime, enable_delegate=True)
    assert "delegate" in runtime.registry
    assert not runtime.registry.requires_approval("delegate", {"instruction": "x"})
    reconfigure_runtime(runtime, profile="readonly")
    assert "delegate" in runtime.registry
    off = RuntimeOptions(profile="developer", enable_delegate=False)
    assert "delegate" not in create_runtime("x", options=off).registry


@pytest.mark.rows("O-5", "O-16")
def test_an_agent_of_a_given_session_is_never_given_the_delegate_tool_unasked() -> None:
    agent = Agent(AgentConfig(profile="developer"))
    agent.registry.unregister("delegate")
    runtime = create_runtime("x", session=Session(agent))
    assert "delegate" not in runtime.registry
    reconfigure_runtime(runtime, auto_approve=False)
    agent = Agent(AgentConfig(profile="developer"))
    off = RuntimeOptions(enable_delegate=False)
    assert "delegate" not in create_runtime("x", session=Session(agent), options=off).registry


def test_a_call_of_another_form_says_which_forms_there_are() -> None:
    create: Any = create_runtime
    with pytest.raises(TypeError, match=r"system_prompt, .* has no testing; .*\(spec, \*, inter"):
        create("x", testing={})
    with pytest.raises(TypeError, match="has no colour"):
        create("x", colour="red")
    with pytest.raises(TypeError, match=r"spec, .* has no options; .*\(system_prompt, \*, opt"):
        create({"agents": []}, options=None)
    with pytest.raises(TypeError, match="a system prompt or a RuntimeSpec, not a int"):
        create(5)
    with pytest.raises(TypeError, match="one argument before its keywords"):
        create()
    assert create(system_prompt="x").profile_name == "readonly"


# -------------------------------------------------------------- runs that are waited for


async def interrupted(path: Path, command: str) -> RunState:
    """A run of a process that has gone, which waits for one approval."""
    options = RuntimeOptions(profile=ASKING, working_dir=str(path))
    runtime = create_runtime("Be careful.", options=options, approval_callback=later)
    async with scripted(runtime, [bash(command)]):
        result = await run_prompt(runtime, "Go.")
    assert result.status == "interrupted"
    assert result.state is not None
    assert [item.tool_name for item in result.interruptions] == ["bash"]
    return RunState.from_dict(json.loads(json.dumps(result.state.to_dict())))


@pytest.mark.rows("O-20")
@pytest.mark.parametrize("approved", [True, False])
async def test_another_runtime_goes_on_with_a_run_as_it_was_decided(
    tmp_path: Path, approved: bool
) -> None:
    state = await interrupted(tmp_path, "echo x > ran")
    (waiting,) = state.pending_approvals
    options = RuntimeOptions(profile=ASKING, working_dir=str(tmp_path))
    async with create_runtime("Another prompt.", options=options) as runtime:
        scripted(runtime, [bash("never"), {"text": "Done.", "usage": USAGE}])
        result = await run_prompt(
            runtime, state, approval_decisions={waiting.tool_call_id: approved}
        )
        assert result.status == "completed"
        assert (tmp_path / "ran").exists() is approved
        assert runtime.session.state.get_user_messages() == ["Go."]
        assert runtime.session.system_prompt == "Be careful."
        turns = 2 if approved else 1
        assert session_usage(runtime.session)["total_input_tokens"] == 7 * turns
        with pytest.raises(SessionError, match="no call"):
            await runtime.session.resume({})


@pytest.mark.rows("O-20")
async def test_what_is_not_decided_is_not_approved_by_default(tmp_path: Path) -> None:
    state = await interrupted(tmp_path, "echo x > ran")
    options = RuntimeOptions(profile=ASKING, working_dir=str(tmp_path), auto_approve=True)
    async with create_runtime("x", options=options) as runtime:
        scripted(runtime, [bash("never"), {"text": "Done."}])
        result = await run_prompt(runtime, state)
        assert (result.status, (tmp_path / "ran").exists()) == ("interrupted", False)
        assert result.state is not None
        decisions = {item.tool_call_id: True for item in result.interruptions}
        assert (await run_prompt(runtime, result.state, approval_decisions=decisions)).text


@pytest.mark.rows("O-20")
async def test_a_runtime_with_another_conversation_takes_over_none(tmp_path: Path) -> None:
    state = await interrupted(tmp_path, "true")
    async with create_runtime("x") as runtime:
        scripted(runtime, [{"text": "Hello."}])
        await run_prompt(runtime, "Hello?")
        with pytest.raises(SessionError, match="another conversation"):
            await run_prompt(runtime, state)
        with pytest.raises(SessionError, match="there is a prompt only"):
            await run_prompt(runtime, "Go.", approval_decisions={"a": True})


@pytest.mark.rows("O-20")
async def test_the_usage_of_a_session_is_that_of_all_its_runs() -> None:
    async with create_runtime("x") as runtime:
        scripted(runtime, [{"text": "1", "usage": USAGE}, {"text": "2", "usage": USAGE}])
        await run_prompt(runtime, "a")
        result = await run_prompt(runtime, "b")
    used = session_usage(runtime.session)
    assert used["total_input_tokens"] == 14
    assert used["total_cost_usd"] == 1.0
    assert used == {name: result.usage[name] for name in used}


@pytest.mark.rows("O-20")
async def test_a_stored_run_is_gone_on_with_by_its_id_and_runs_once(tmp_path: Path) -> None:
    store = SqliteRunStore(tmp_path / "runs" / "states.db")
    options = RuntimeOptions(profile=ASKING, working_dir=str(tmp_path / "work"))
    script = [bash("echo x >> ran"), {"text": "Done."}]
    first = create_runtime("x", options=options, approval_callback=later)
    async with scripted(first, script):
        result = await run_prompt_stored(first, "Go.", run_store=store, run_id="7")
    assert result.status == "interrupted"
    kept = await store.load("7")
    assert kept == result.state
    decisions = {result.interruptions[0].tool_call_id: True}
    runtimes = [scripted(create_runtime("x", options=options), script) for _ in range(2)]
    results = await asyncio.gather(
        *(
            run_prompt_stored(
                runtime, "Go.", run_store=store, run_id="7", approval_decisions=decisions
            )
            for runtime in runtimes
        ),
        return_exceptions=True,
    )
    for runtime in runtimes:
        await close_runtime(runtime)
    (done,) = [each for each in results if not isinstance(each, BaseException)]
    (refused,) = [each for each in results if isinstance(each, BaseException)]
    assert done.text == "Done."
    assert isinstance(refused, SessionError)
    assert (tmp_path / "work" / "ran").read_text() == "x\n"
    assert await store.load("7") is None


@pytest.mark.rows("O-20")
async def test_a_stored_run_that_did_not_begin_is_put_back(tmp_path: Path) -> None:
    store = SqliteRunStore(tmp_path / "states.db")
    state = await interrupted(tmp_path, "true")
    await store.save("7", state)
    async with create_runtime("x", options=RuntimeOptions(profile=ASKING)) as runtime:
        with pytest.raises(SessionError, match="no such call waits"):
            await run_prompt_stored(
                runtime, "Go.", run_store=store, run_id="7", approval_decisions={"other": True}
            )
        assert await store.load("7") == state
        runtime.session.budget = Budget(seconds=0)
        scripted(runtime, [{"text": "Never said."}])
        late = await run_prompt_stored(runtime, "Go.", run_store=store, run_id="7")
        assert late.status == "interrupted"
        assert await store.load("7") == state
        working = asyncio.create_task(
            run_prompt_stored(runtime, "Go.", run_store=store, run_id="7")
        )
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        store.open("7").close()
        assert await store.load("7") == state, "it is free again"


@pytest.mark.rows("O-20")
async def test_a_run_store_is_a_table_of_one_row_for_each_run(tmp_path: Path) -> None:
    path = tmp_path / "states.db"
    store, state = SqliteRunStore(path), await interrupted(tmp_path, "true")
    assert await store.load("7") is None
    await asyncio.gather(*(store.save(str(number % 3), state) for number in range(12)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        select = "SELECT run_id, state_json, updated_at FROM run_states"
        rows = connection.execute(select).fetchall()
        assert sorted(row[0] for row in rows) == ["0", "1", "2"]
        assert RunState.from_dict(json.loads(rows[0][1])) == state
        damage = "UPDATE conversation_records SET record = ? WHERE conversation_id = ?"
        connection.execute(damage, (b"[]\n", "0"))
        connection.execute(damage, (b"x\n", "1"))
        connection.commit()
    finally:
        connection.close()
    for run_id in ("0", "1"):
        with pytest.raises(TraceError):
            store.open(run_id)
        with pytest.raises(TraceError):
            await store.load(run_id)
    (tmp_path / "no-database").write_text("This is a text that is no database at all. " * 9)
    with pytest.raises(SessionError, match="cannot use the conversation store"):
        await SqliteRunStore(tmp_path / "no-database").save("1", state)
