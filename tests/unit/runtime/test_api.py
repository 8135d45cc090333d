"""The service's face: runtimes made, prompted, reconfigured and closed by functions."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from paddock import (
    Agent,
    AgentConfig,
    CancellationToken,
    ConfigError,
    PermissionProfile,
    RuntimeOptions,
    ScriptedModel,
    Session,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
    close_runtime,
    create_runtime,
    dispatch_prompt,
    load_profile,
    reconfigure_runtime,
    run_prompt,
    start_runtime,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock import AgentEvent, AgentRuntime

CALL: dict[str, Any] = {"tool_calls": [{"name": "bash", "arguments": {"command": "echo ran"}}]}
FOREVER: dict[str, Any] = {"tool_calls": [{"name": "bash", "arguments": {"command": "sleep 99"}}]}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "PADDOCK_PROFILE", "PADDOCK_BACKEND"):
        monkeypatch.delenv(name, raising=False)


def scripted(runtime: AgentRuntime, script: Sequence[Any]) -> AgentRuntime:
    """The same runtime, whose model is a script."""
    runtime.session._resources.given_client = ScriptedModel(script)
    return runtime


@pytest.mark.rows("O-14")
def test_options_are_those_of_the_environment_at_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = RuntimeOptions()
    assert (plain.model, plain.base_url, plain.profile) == ("gpt-5-mini", None, None)
    assert (plain.auto_approve, plain.enable_delegate, plain.session_id) == (True, True, None)
    assert plain.telemetry_metadata == {}
    told = {
        "OPENAI_MODEL": "m",
        "OPENAI_BASE_URL": "http://b",
        "PADDOCK_REASONING_EFFORT": "high",
        "PADDOCK_PROFILE": "developer",
        "PADDOCK_TEAM_ID": "t",
        "PADDOCK_PROJECT_ID": "p",
        "PADDOCK_OBSERVABILITY_CONFIG": "o.yaml",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    read = RuntimeOptions(team_id="mine")
    assert (read.model, read.base_url, read.reasoning_effort) == ("m", "http://b", "high")
    assert (read.profile, read.team_id, read.project_id) == ("developer", "mine", "p")
    assert read.observability_config == "o.yaml"


@pytest.mark.rows("O-2", "O-3", "O-15")
def test_a_runtime_is_made_without_a_loop_and_leaves_the_callers_options_alone() -> None:
    options = RuntimeOptions(profile="developer")
    runtime = create_runtime("You are.", options=options)
    assert options == RuntimeOptions(profile="developer")
    assert runtime.options.profile == load_profile("developer")
    assert len(runtime.options.session_id or "") == 36
    assert runtime.session_id == runtime.session.id == runtime.options.session_id
    assert (runtime.model, runtime.profile_name) == ("gpt-5-mini", "developer")
    assert runtime.registry is runtime.agent.registry
    assert runtime.agent.system_prompt == "You are."
    assert runtime.observability is None
    assert create_runtime("x").profile_name == "readonly"
    with pytest.raises(ConfigError):
        create_runtime("x", options=RuntimeOptions(profile="nothing"))
    with pytest.raises(TypeError):
        create_runtime("x", options)  # type: ignore[call-overload]


@pytest.mark.rows("O-8")
async def test_a_prompt_is_run_and_its_events_are_shown(tmp_path: Any) -> None:
    seen: list[str] = []

    async def show(event: AgentEvent) -> None:
        await asyncio.sleep(0)
        seen.append(event.type)

    options = RuntimeOptions(profile="developer", working_dir=str(tmp_path))
    async with create_runtime("x", options=options) as runtime:
        used = {"input_tokens": 7, "output_tokens": 1}
        scripted(runtime, [CALL, {"expect": "ran", "text": "It ran.", "usage": used}])
        result = await run_prompt(runtime, "Go.", on_event=show)
    assert (result.text, result.status) == ("It ran.", "completed")
    assert seen == [event.type for event in result.events]
    assert {"tool_start", "tool_end", "turn_complete"} <= set(seen)
    assert result.usage["input_tokens"] == 7


@pytest.mark.rows("O-4")
async def test_without_a_callback_what_needs_approval_is_approved_or_rejected() -> None:
    profile = PermissionProfile(name="asking", shell="unrestricted", approval="all")  # type: ignore[arg-type]
    for auto, blocked in ((True, 0), (False, 1)):
        options = RuntimeOptions(profile=profile, auto_approve=auto)
        async with create_runtime("x", options=options) as runtime:
            scripted(runtime, [CALL, {"text": "So be it."}])
            result = await run_prompt(runtime, "Go.")
        assert [event.type for event in result.events].count("tool_blocked") == blocked
    asked: list[str] = []
    runtime = create_runtime(
        "x",
        options=RuntimeOptions(profile=profile, auto_approve=False),
        approval_callback=lambda name, arguments: not asked.append(name),  # type: ignore[func-returns-value]
    )
    async with scripted(runtime, [CALL, {"expect": "ran", "text": "Approved."}]):
        assert (await run_prompt(runtime, "Go.")).text == "Approved."
    assert asked == ["bash"]


@pytest.mark.rows("O-5")
async def test_a_given_session_goes_on_and_stays_the_callers() -> None:
    agent = Agent(AgentConfig(system_prompt="The given one.", profile="developer"))
    async with Session(agent, client=ScriptedModel([{"text": "1"}, {"text": "2"}])) as session:
        await session.run(prompt="First.")
        runtime = create_runtime("Another.", session=session)
        assert runtime.agent.system_prompt == "The given one."
        assert (await run_prompt(runtime, "Second.")).text == "2"
        sandbox = await session.get_sandbox()
        await close_runtime(runtime)
        assert (await sandbox.exec("true")).ok
        assert session.state.get_user_messages() == ["First.", "Second."]


@pytest.mark.rows("O-9", "O-10", "O-11")
async def test_a_dispatched_prompt_runs_beside_and_tells_how_it_is() -> None:
    async with create_runtime("x", options=RuntimeOptions(profile="developer")) as runtime:
        scripted(runtime, [FOREVER])
        token = CancellationToken()
        handle = dispatch_prompt(runtime, "analyze the logs", token=token)
        assert (handle.done(), handle.status) == (False, "running")
        assert (handle.runtime, handle.prompt, handle.token) == (runtime, "analyze the logs", token)
        await runtime.session.get_sandbox()
        threading.Timer(0.2, token.cancel, ["by itself"]).start()
        result = await handle.wait()
        assert (result.status, handle.status, handle.done()) == ("cancelled", "cancelled", True)
        assert token.reason == "by itself"
        scripted(runtime, [FOREVER])
        handle = dispatch_prompt(runtime, "once more")
        await asyncio.sleep(0)
        handle.cancel("timeout exceeded")
        handle.cancel("again")
        assert (await handle.wait()).status == "cancelled"
        assert handle.token is not None
        assert handle.token.reason == "timeout exceeded"


async def test_a_run_that_raises_is_an_error_of_its_handle() -> None:
    runtime = create_runtime("x", options=RuntimeOptions(profile="developer"))
    scripted(runtime, [{"text": "hello"}])
    handle = dispatch_prompt(runtime, "x", on_event=lambda event: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        await handle.wait()
    assert handle.status == "error"
    await close_runtime(runtime, "error")


@pytest.mark.rows("O-17")
async def test_runtimes_in_one_loop_overlap() -> None:
    together = asyncio.Barrier(3)

    class Meet(ToolHandler):
        name = "meet"
        description = "Waits for the others."
        parameters: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}}

        async def handle(self, invocation: ToolInvocation) -> ToolOutput:
            await together.wait()
            return ToolOutput("met")

    runtimes = [create_runtime("You are an analyst.") for _ in range(3)]
    handles = []
    for runtime in runtimes:
        runtime.registry.register(Meet())
        meeting = {"tool_calls": [{"name": "meet", "arguments": {}}]}
        scripted(runtime, [meeting, {"text": runtime.session_id}])
        await start_runtime(runtime)
        handles.append(dispatch_prompt(runtime, "Go."))
    async with asyncio.timeout(60):
        results = [await handle.wait() for handle in handles]
    assert [result.text for result in results] == [runtime.session_id for runtime in runtimes]
    for runtime, result in zip(runtimes, results, strict=True):
        await close_runtime(runtime, result.status)


@pytest.mark.rows("O-12")
async def test_closing_is_idempotent_cancels_what_runs_and_takes_the_sandbox_down() -> None:
    never_started = create_runtime("x")
    await close_runtime(never_started)
    runtime = create_runtime("x", options=RuntimeOptions(profile="developer"))
    await start_runtime(scripted(runtime, [FOREVER]))
    await start_runtime(runtime)
    handle = dispatch_prompt(runtime, "x")
    sandbox = await runtime.session.get_sandbox()
    await close_runtime(runtime, "cancelled")
    await close_runtime(runtime, "cancelled")
    assert sandbox.closed
    assert (await handle.wait()).status == "cancelled"


@pytest.mark.rows("O-13")
async def test_a_runtime_is_changed_while_its_conversation_goes_on(tmp_path: Any) -> None:
    options = RuntimeOptions(profile="developer", working_dir=str(tmp_path / "one"))
    async with create_runtime("x", options=options) as runtime:
        pwd = {"tool_calls": [{"name": "bash", "arguments": {"command": "pwd"}}]}
        script = [pwd, {"expect": "one", "text": "1"}, pwd, {"expect": "two", "text": "2"}, pwd]
        scripted(runtime, script)

        class Own(ToolHandler):
            name = "own"
            description = "The caller's."
            parameters: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}}

            async def handle(self, invocation: ToolInvocation) -> ToolOutput:
                return ToolOutput("")

        runtime.registry.register(Own())
        assert (await run_prompt(runtime, "Where?")).text == "1"
        assert reconfigure_runtime(runtime) == load_profile("developer")
        profile = reconfigure_runtime(
            runtime, profile="readonly", working_dir=str(tmp_path / "two")
        )
        assert profile == load_profile("readonly") == runtime.options.profile
        assert runtime.registry is runtime.agent.registry is runtime.session.registry
        assert "own" in runtime.registry
        assert "edit" not in runtime.registry
        assert (runtime.profile_name, runtime.options.auto_approve) == ("readonly", True)
        assert runtime.options.model == options.model
        assert (await run_prompt(runtime, "And now?")).text == "2"
        assert runtime.session.state.get_user_messages() == ["Where?", "And now?"]
        reconfigure_runtime(runtime, auto_approve=False)
        blocked = await run_prompt(runtime, "Once more.")
        assert "tool_blocked" in [event.type for event in blocked.events]
    assert replace(options) == options
