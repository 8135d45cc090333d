"""The registry: what is offered, what a call gives back whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from paddock.errors import ConfigError, SandboxLost
from paddock.runtime.core.context import NO_CONTEXT
from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.permissions.profile import ApprovalMode, PermissionProfile, load_profile
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.factory import build_registry
from paddock.runtime.tools.registry import ToolRegistry


class Echo(ToolHandler):
    """Returns its arguments, or raises what it was made with."""

    description = "Echoes."
    parameters: Final[dict[str, Any]] = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "loud": {"type": "boolean"}},
        "required": ["text"],
    }

    def __init__(
        self,
        name: str = "echo",
        *,
        enabled: bool = True,
        ask: bool = False,
        error: BaseException | None = None,
    ) -> None:
        self.name = name
        self.is_enabled = enabled
        self.requires_approval = ask
        self._error = error

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        if self._error is not None:
            raise self._error
        return ToolOutput(content=repr(invocation.arguments))


def _call(tool: str, **arguments: Any) -> ToolInvocation:
    return ToolInvocation(call_id="1", tool_name=tool, arguments=arguments)


@pytest.mark.rows("S-9")
def test_handlers_come_and_go_by_name() -> None:
    registry = ToolRegistry([Echo("b")])
    first = Echo("a")
    registry.register(first)
    assert "a" in registry
    assert len(registry) == 2
    assert list(registry) == ["a", "b"]
    assert registry.get("a") is first
    assert registry.unregister("a") is first
    assert registry.unregister("a") is None
    assert registry.get("a") is None
    registry.clear()
    assert len(registry) == 0


def test_a_copy_has_the_same_handlers_and_lives_its_own_life() -> None:
    registry = ToolRegistry([Echo()], profile=load_profile("developer"))
    other = registry.copy()
    other.clear()
    assert "echo" in registry
    third = registry.copy()
    registry.register(Echo("another"), concurrent=False)
    assert [*third] == ["echo"]
    assert other.profile is registry.profile


@pytest.mark.rows("S-9", "S-10")
def test_only_enabled_tools_are_offered_sorted_by_name() -> None:
    registry = ToolRegistry([Echo("b"), Echo("c", enabled=False), Echo("a")])
    assert [spec["function"]["name"] for spec in registry.get_specs()] == ["a", "b"]
    assert registry.get_specs()[0] == {
        "type": "function",
        "function": {"name": "a", "description": "Echoes.", "parameters": Echo.parameters},
    }


def test_one_spec_serves_all_requests_until_the_tool_changes() -> None:
    tool = Echo()
    (first,) = ToolRegistry([tool]).get_specs()
    (again,) = ToolRegistry([tool]).copy().get_specs()
    assert again is first
    tool.description = "Echoes more."
    (changed,) = ToolRegistry([tool]).get_specs()
    assert changed["function"]["description"] == "Echoes more."
    assert first["function"]["description"] == "Echoes."


async def test_a_call_reaches_the_handler_with_its_arguments_mended() -> None:
    output = await ToolRegistry([Echo()]).dispatch(_call("echo", text="x", loud="yes"))
    assert output == ToolOutput(content="{'text': 'x', 'loud': True}")


@pytest.mark.rows("S-10")
def test_a_handler_says_its_name_its_purpose_and_its_arguments_and_does_its_work() -> None:
    assert ToolHandler.__abstractmethods__ == {"handle"}

    class Plain(ToolHandler):
        name = "plain"
        description = "Says so."
        parameters: Final[dict[str, Any]] = {"type": "object", "properties": {}}

        async def handle(self, invocation: ToolInvocation) -> ToolOutput:
            return ToolOutput(invocation.call_id)

    plain = Plain()
    assert plain.is_enabled
    assert not plain.requires_approval
    assert plain.to_spec() == {
        "type": "function",
        "function": {
            "name": "plain",
            "description": "Says so.",
            "parameters": {"type": "object", "properties": {}},
        },
    }


@pytest.mark.rows("S-10")
def test_a_call_and_its_result_can_be_made_by_hand_in_the_documented_order() -> None:
    invocation = ToolInvocation("1", "echo", {"text": "x"})
    assert (invocation.call_id, invocation.tool_name) == ("1", "echo")
    assert (invocation.arguments, invocation.context) == ({"text": "x"}, NO_CONTEXT)
    first, second = ToolOutput("x"), ToolOutput("y", False, {"why": "z"})
    assert (first.content, first.success, first.metadata) == ("x", True, {})
    assert (second.content, second.success, second.metadata) == ("y", False, {"why": "z"})
    assert first.metadata is not ToolOutput("x").metadata


@pytest.mark.rows("S-9")
async def test_an_unknown_tool_is_a_result() -> None:
    output = await ToolRegistry().dispatch(_call("nope"))
    assert not output.success
    assert output.content == "Unknown tool: nope"


@pytest.mark.rows("S-9")
async def test_a_disabled_tool_is_a_result() -> None:
    output = await ToolRegistry([Echo(enabled=False)]).dispatch(_call("echo", text="x"))
    assert not output.success
    assert output.content == "Tool 'echo' is currently disabled"


async def test_arguments_that_do_not_fit_are_a_result_and_the_handler_is_not_called() -> None:
    registry = ToolRegistry([Echo(error=AssertionError("called"))])
    output = await registry.dispatch(_call("echo", txt="x"))
    assert not output.success
    assert output.content == (
        "Invalid arguments for tool 'echo': missing required argument 'text'; "
        "unknown argument 'txt' (known: text, loud)"
    )


@pytest.mark.rows("S-9")
async def test_an_exception_is_a_result_that_tells_type_message_and_arguments() -> None:
    registry = ToolRegistry([Echo(error=KeyError("k"))])
    output = await registry.dispatch(_call("echo", text="x"))
    assert not output.success
    assert output.content == "Tool 'echo' failed: KeyError: 'k'\nArguments: {\"text\": \"x\"}"
    assert output.metadata == {"error": "KeyError"}


async def test_a_lost_sandbox_is_told_as_such_and_never_as_output() -> None:
    registry = ToolRegistry([Echo(error=SandboxLost("the engine is gone"))])
    output = await registry.dispatch(_call("echo", text="x"))
    assert not output.success
    assert output.metadata["error"] == "SandboxLost"


async def test_long_arguments_are_not_repeated_whole_in_a_failure() -> None:
    registry = ToolRegistry([Echo(error=ValueError("bad"))])
    output = await registry.dispatch(_call("echo", text="x" * 100_000))
    assert len(output.content) < 1000


@pytest.mark.rows("S-9")
@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
async def test_cancellation_passes_through(error: BaseException) -> None:
    registry = ToolRegistry([Echo(error=error)])
    call = registry.dispatch(_call("echo", text="x"))
    with pytest.raises(type(error)):
        await call


@pytest.mark.rows("S-9")
def test_approval_is_for_the_handler_or_the_profile_to_ask_for() -> None:
    quiet = PermissionProfile(name="x", approval=ApprovalMode.NONE)
    assert ToolRegistry([Echo(ask=True)], profile=quiet).requires_approval("echo", {})
    assert not ToolRegistry([Echo()], profile=quiet).requires_approval("echo", {})
    assert not ToolRegistry([Echo()]).requires_approval("echo")
    developer = build_registry("developer")
    assert developer.requires_approval("bash", {"command": "rm -rf /"})
    assert not developer.requires_approval("bash", {"command": "ls"})
    assert not developer.requires_approval("unknown", {"x": "rm -rf /"})


CREATE_ONLY = PermissionProfile.from_dict({"name": "x", "file_write": "create-only"})
READING = ["bash", "glob", "grep", "list", "read", "read_excel"]


@pytest.mark.rows("S-43")
@pytest.mark.parametrize(
    ("profile", "tools"),
    [
        (None, READING),
        ("readonly", READING),
        (CREATE_ONLY, [*READING, "write"]),
        ("developer", [*READING, "delegate", "edit", "write"]),
        ("unrestricted", [*READING, "delegate", "edit", "write"]),
        ("developer-bash-only", ["bash"]),
    ],
)
def test_the_profile_decides_which_tools_there_are(
    profile: str | PermissionProfile | None, tools: list[str]
) -> None:
    registry = build_registry(profile)
    assert list(registry) == sorted(tools)
    assert [spec["function"]["name"] for spec in registry.get_specs()] == sorted(tools)


async def test_a_tool_that_needs_a_sandbox_says_so_outside_a_session() -> None:
    output = await build_registry("developer").dispatch(_call("read", path="x"))
    assert not output.success
    assert "needs a session's sandbox" in output.content


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({}, "name is None"),
        ({"name": "two words"}, "name is 'two words'"),
        ({"name": "x"}, "'x': description must be a string"),
        ({"name": "x", "description": "X."}, "'x': parameters must be a JSON schema"),
        ({"name": "x", "description": "X.", "parameters": {"type": "string"}}, "of type 'object'"),
    ],
)
def test_a_handler_that_no_model_can_be_offered_is_refused(
    attributes: dict[str, Any], problem: str
) -> None:
    class Handler(ToolHandler):
        async def handle(self, invocation: ToolInvocation) -> ToolOutput:
            return ToolOutput("never")

    handler = Handler()
    for name, value in attributes.items():
        setattr(handler, name, value)
    with pytest.raises(ConfigError, match=problem):
        ToolRegistry([handler])


async def test_a_handler_that_returns_something_else_than_an_output_has_failed() -> None:
    class Wrong(Echo):
        async def handle(self, invocation: ToolInvocation) -> Any:
            return "text"

    output = await ToolRegistry([Wrong()]).dispatch(_call("echo", text="x"))
    assert not output.success
    assert "TypeError: handle returned str, not a ToolOutput" in output.content
