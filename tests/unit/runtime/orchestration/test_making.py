"""Making a runtime of a spec: what is taken, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from paddock import (
    ModelSpec,
    Runtime,
    RuntimeSpec,
    TestingConfig,
    close_runtime,
    create_runtime,
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
    start_runtime,
)
from paddock.runtime.orchestration.providers import model_of
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PROVIDERS,
    call,
    echo_tool,
    of_type,
    read,
    script,
    team,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def one(model: Any = MODEL, providers: Mapping[str, Any] = PROVIDERS, **more: Any) -> RuntimeSpec:
    worker = define_specialist("worker", model=model, prompt="Work.", **more)
    return define_runtime(define_tenant("acme", "v1"), agents=[worker], providers=providers)


@pytest.mark.rows("F-14")
async def test_a_mapping_is_taken_as_a_spec() -> None:
    spec = team()
    runtime: Runtime = create_runtime(
        spec.model_dump(by_alias=True), testing=TestingConfig(mock_response="hello")
    )
    assert runtime.spec == spec
    events = await read(runtime.query("Say hello", thread_id="thread-1"))
    assert [each["text"] for each in of_type(events, "text")] == ["hello"]
    with pytest.raises(ValidationError):
        create_runtime({"tenant": {"resourceId": "acme", "version": "v1"}})


@pytest.mark.rows("F-14")
async def test_both_kinds_of_runtime_are_started_and_closed_by_the_same_functions() -> None:
    runtime = create_runtime(team())
    await start_runtime(runtime)
    await close_runtime(runtime)
    with pytest.raises(RuntimeError, match="the runtime is closed"):
        await read(runtime.query("Say hello", thread_id="thread-1"))
    alone = create_runtime("You are alone.")
    await start_runtime(alone)
    await close_runtime(alone)


@pytest.mark.rows("F-15", "F-21")
def test_testing_and_an_interpreter_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="testing= and interpreter='scripted' exclude each other"):
        create_runtime(team(), interpreter="scripted", testing=TestingConfig(mock_response="x"))
    create_runtime(team(), interpreter="noop", testing=TestingConfig(mock_response="x"))


@pytest.mark.rows("F-15")
@pytest.mark.parametrize(
    ("testing", "error", "told"),
    [
        ({"mock_response": "x", "colour": 1}, ValueError, "testing has no colour"),
        ({}, ValueError, "give mock_response"),
        ({"mock_response": 5}, TypeError, "mock_response is a text, not int"),
        ("x", TypeError, "give a TestingConfig, not str"),
    ],
)
def test_a_wrong_mock_is_refused(testing: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        create_runtime(team(), testing=testing)


@pytest.mark.rows("F-15")
@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("claude-opus-9", "anthropic", "claude-opus-9"),
        ("gpt-9-mini", "openai-compatible", "gpt-9-mini"),
        ("o9-mini", "openai-compatible", "o9-mini"),
        ("local/qwen", "local", "qwen"),
        (ModelSpec("org/model", provider="local"), "local", "org/model"),
        ("olympus", None, "olympus"),
    ],
)
def test_the_provider_of_a_model_is_known_by_its_spec_or_its_name(
    model: Any, provider: str | None, name: str
) -> None:
    worker = define_specialist("worker", model=model, prompt="Work.")
    assert model_of(worker) == (provider, name)


@pytest.mark.rows("F-15")
@pytest.mark.parametrize("mode", [{}, {"testing": {"mock_response": "x"}}])
def test_a_model_of_a_provider_that_is_not_declared_is_refused(mode: Any) -> None:
    with pytest.raises(
        ValueError, match="agent 'worker': the provider of its model 'gpt-9' is 'op"
    ):
        create_runtime(one("gpt-9"), **mode)
    with pytest.raises(
        ValueError, match="agent 'worker': the provider of its model 'olympus' is u"
    ):
        create_runtime(one("olympus"), **mode)


@pytest.mark.rows("F-15")
def test_a_provider_of_ones_own_has_an_address() -> None:
    with pytest.raises(ValueError, match="provider 'local': give baseUrl"):
        create_runtime(one("local/qwen", {"local": {}}))
    create_runtime(one("local/qwen", {"local": {"baseUrl": "http://127.0.0.1:1/v1"}}))


@pytest.mark.rows("F-8", "F-15")
def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="interpreter='magic': give 'noop', 'scripted'"):
        create_runtime(team(), interpreter="magic")
    with pytest.raises(TypeError, match="give a name or a ModelClient, not 5"):
        create_runtime(team(), interpreter=5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'openai' needs the provider 'openai-compatible'"):
        create_runtime(team(), interpreter="openai")
    with pytest.raises(ValueError, match="agent 'worker': the tool 'search' has no handler"):
        create_runtime(team(define_tool("search", {"query": str})))
    dynamic = echo_tool(approval={"kind": "dynamic", "value": "big"})
    with pytest.raises(ValueError, match="there is no predicate 'big'"):
        create_runtime(team(dynamic))
    create_runtime(team(dynamic), approval_predicates={"big": lambda args, ctx: True})
    with pytest.raises(TypeError, match="event_hooks: 5 is not a function"):
        create_runtime(team(), event_hooks=[5])  # type: ignore[list-item]


@pytest.mark.rows("F-16")
@pytest.mark.parametrize(
    "name", ["", 5, "tool_use_id", "services", "references", "get", "keys", "as_dict", "sandbox"]
)
def test_a_service_cannot_hide_what_the_context_has(name: Any) -> None:
    with pytest.raises(ValueError, match="services: "):
        create_runtime(team(), services={name: object()})


@pytest.mark.rows("F-20")
async def test_hooks_get_copies_of_the_events_before_they_are_given_out() -> None:
    log: list[Any] = []

    def spoil(event: dict[str, Any]) -> None:
        log.append(event["type"])
        event.clear()

    async def fail(event: dict[str, Any]) -> None:
        log.append(f"then {event['type']}")
        raise LookupError("nobody listens")

    runtime = create_runtime(team(), event_hooks=[spoil, fail], testing={"mock_response": "x"})
    async for event in runtime.query("Say hello", thread_id="thread-1"):
        assert event["type"] in log  # the run may be ahead
        log.append(f"read {event['type']}")
    hooked = [each for each in log if not each.startswith("read ")]
    read_ones = [each.removeprefix("read ") for each in log if each.startswith("read ")]
    assert hooked == [name for each in read_ones for name in (each, f"then {each}")]


@pytest.mark.rows("F-13")
def test_a_tool_that_a_stricter_floor_does_not_gate_is_warned_of_once() -> None:
    spec = team(echo_tool(), approval_policies={"tools": "always"})
    with pytest.warns(UserWarning, match="the tool 'echo' of agent 'worker' runs without") as seen:
        create_runtime(spec)
    assert len(seen) == 1


@pytest.mark.rows("F-21")
async def test_a_script_goes_on_after_calls_that_fail() -> None:
    runtime = create_runtime(team(echo_tool()), interpreter="scripted")
    wrong = [call("nothing"), call("echo", value=5, more=1), call("echo")] * 4
    stream = runtime.run_specialist("worker", script(*wrong, call("echo", value="hello")))
    events = await read(stream)
    results = [each["result"] for each in of_type(events, "tool-invocation") if "result" in each]
    assert [[*each] for each in results] == [["error"]] * 12 + [["echo"]]
    assert "missing required argument 'value'" in results[2]["error"]
    assert of_type(events, "finish")


@pytest.mark.rows("F-21")
async def test_a_prompt_that_is_no_script_is_answered_with_itself() -> None:
    runtime = create_runtime(team(), interpreter="scripted")
    for prompt in (
        "Say hello.",
        "[1, 2]",
        '{"tool": 5}',
        '{"script": [{"args": {}}]}',
        '{"tool": "a", "args": 1}',
    ):
        events = await read(runtime.run_specialist("worker", prompt))
        assert [each["text"] for each in of_type(events, "text")] == [prompt]


@pytest.mark.rows("F-21")
async def test_a_coordinator_that_scripts_remembers_earlier_prompts_and_counts_from_one() -> None:
    runtime = create_runtime(team(echo_tool()), interpreter="scripted")
    prompt = script(call("call_agent", agent="worker", prompt=script(call("echo", value="a"))))
    for _ in range(2):
        events = await read(runtime.query(prompt, thread_id="thread-1"))
        ids = [each["toolInvocationId"] for each in of_type(events, "tool-invocation")]
        assert ids == ["scripted-tool-1", "scripted-tool-2", "scripted-tool-2", "scripted-tool-1"]


@pytest.mark.rows("F-21")
async def test_a_mock_may_be_empty() -> None:
    events = await read(create_runtime(team(), testing={"mockResponse": ""}).query("Hi", "t"))
    assert of_type(events, "finish")
    assert not of_type(events, "text")


@pytest.mark.rows("F-26")
async def test_agents_are_called_along_the_routes_only() -> None:
    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["worker"]),
            define_specialist("worker", model=MODEL, prompt="Work."),
            define_specialist("other", model=MODEL, prompt="Work."),
        ],
        providers=PROVIDERS,
    )
    runtime = create_runtime(spec, interpreter="scripted")
    prompt = script(call("call_agent", agent="other", prompt="Go."))
    events = await read(runtime.query(prompt, thread_id="thread-1"))
    (result,) = [each["result"] for each in of_type(events, "tool-invocation") if "result" in each]
    assert result == {"error": "there is no route to an agent 'other'; the routes are worker"}
