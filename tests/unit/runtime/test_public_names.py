"""What the two documents import and construct is there, with the defaults that they tell."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from typing import TYPE_CHECKING, Any, get_args

import pytest

import paddock
import paddock.errors
from paddock import (
    Agent,
    AgentConfig,
    DaytonaBackend,
    LocalBackend,
    PermissionProfile,
    ScriptedModel,
    Session,
)
from paddock.runtime.agents.model_options import OPTION_TYPES
from paddock.runtime.permissions.profile import CapabilityProfile
from tests.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC: list[str] = vars(paddock)["__all__"]
SDK = (
    "Agent", "AgentConfig", "AgentEvent", "ApprovalInterrupt", "CompactResult", "DaytonaBackend",
    "RunResult", "Session", "SessionInfo", "SessionStore", "State", "StateObserver",
)  # fmt: skip
API = (
    "AgentHandle", "AgentRuntime", "CancellationToken", "ObservabilityInitializationError",
    "RunResult", "RuntimeOptions", "close_runtime", "create_runtime", "dispatch_prompt",
    "reconfigure_runtime", "run_prompt", "start_runtime",
)  # fmt: skip
VARIABLES = {
    "OPENAI_MODEL": "model",
    "OPENAI_BASE_URL": "base_url",
    "PADDOCK_PROFILE": "profile",
    "PADDOCK_BACKEND": "backend",
    "PADDOCK_SERVICE_TIER": "service_tier",
    "PADDOCK_REASONING_EFFORT": "reasoning_effort",
}


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.rows("S-1")) for name in SDK),
        *(pytest.param(name, marks=pytest.mark.rows("O-1")) for name in API),
    ],
)
def test_a_documented_name_is_one_of_the_packages(name: str) -> None:
    assert name in dir(paddock)
    assert getattr(paddock, name).__module__.startswith("paddock.")


def test_a_profile_has_its_name_of_either_document() -> None:
    assert CapabilityProfile is PermissionProfile


def test_the_reference_has_a_line_for_each_public_name_and_for_no_other() -> None:
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`(\w+)[^`]*`", row)]
    assert set(described) ^ set(PUBLIC) == set(), "add them to docs/reference.md, or remove them"
    assert len(described) == len(PUBLIC)


def test_each_public_name_has_a_docstring_of_its_own() -> None:
    for name in PUBLIC:
        thing = getattr(paddock, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name
            assert not thing.__doc__.startswith(f"{name}("), f"{name} has a generated one"


def test_what_a_public_name_is_made_of_is_public() -> None:
    members = {each.__name__ for each in (*get_args(paddock.Event), *get_args(paddock.ModelEvent))}
    assert members | set(paddock.errors.__all__) <= set(PUBLIC)


def test_statuses_and_kinds_of_the_public_classes_are_literals() -> None:
    """Not those that a service or a user names: `ModelResponse`, `SessionInfo`."""
    names = {"status", "type", "kind", "state", "owner", "step", "trigger"}
    plain = {
        f"{name}.{field.name}"
        for name in PUBLIC
        if dataclasses.is_dataclass(thing := getattr(paddock, name))
        for field in dataclasses.fields(thing)
        if field.name in names and field.type == "str"
    }
    assert plain <= {"SessionInfo.status"}


@pytest.mark.rows("S-2")
def test_a_configuration_has_the_documented_fields_and_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    config = AgentConfig()
    documented: dict[str, Any] = {
        "system_prompt": None, "vars": {}, "model": "gpt-5-mini", "profile": None,
        "backend": "local", "working_dir": None, "base_url": None, "service_tier": None,
        "reasoning_effort": None, "response_format": None, "databases": None,
        "auto_approve": True, "extras": {},
    }  # fmt: skip
    assert {name: getattr(config, name) for name in documented} == documented
    assert {field.name for field in dataclasses.fields(config)} == {
        *documented, "provider", "wire", "secrets", "context_window", "on_refusal", "mcp_servers",
        *OPTION_TYPES,
    }  # fmt: skip


@pytest.mark.rows("S-2")
@pytest.mark.parametrize(("variable", "field"), VARIABLES.items())
def test_a_variable_of_the_environment_gives_a_default_that_an_argument_goes_before(
    monkeypatch: pytest.MonkeyPatch, variable: str, field: str
) -> None:
    monkeypatch.setenv(variable, "of-the-environment")
    assert getattr(AgentConfig(), field) == "of-the-environment"
    given: dict[str, Any] = {field: "given"}
    assert getattr(AgentConfig(**given), field) == "given"


@pytest.mark.rows("S-3")
def test_a_profile_is_a_name_an_object_or_a_file_and_without_one_it_is_readonly(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("profile: mine\nfile_write: full\n")
    written = PermissionProfile(name="object", file_write="full")  # type: ignore[arg-type]
    names = {}
    for profile in (None, "developer", written, str(file)):
        found = Agent(AgentConfig(profile=profile)).registry.profile
        assert found is not None
        names[found.name] = found.file_write.value
    assert names == {"readonly": "off", "developer": "full", "object": "full", "mine": "full"}


@pytest.mark.rows("S-52")
def test_a_backend_of_daytona_is_a_name_or_a_recipe_with_the_documented_defaults() -> None:
    backend = Agent(AgentConfig(backend="daytona")).create_backend()
    assert backend == DaytonaBackend()
    documented: dict[str, Any] = {
        "config": None, "image": "daytonaio/sandbox:latest", "snapshot": None,
        "auto_stop_interval": 0, "env_vars": {}, "uv_version": None,
    }  # fmt: skip
    assert {name: getattr(backend, name) for name in documented} == documented


@pytest.mark.rows("S-53")
@pytest.mark.parametrize(
    ("of_config", "of_recipe", "found"),
    [(True, False, "config"), (False, True, "recipe"), (False, False, "profile")],
)
async def test_commands_begin_where_the_configuration_says_or_else_the_profile(
    tmp_path: Path, of_config: bool, of_recipe: bool, found: str
) -> None:
    places = {name: str(tmp_path / name) for name in ("config", "recipe", "profile")}
    (tmp_path / "profile").mkdir()
    recipe = places["recipe"] if of_recipe else None
    config = AgentConfig(
        backend=LocalBackend(isolation="none", working_dir=recipe),
        working_dir=places["config"] if of_config else None,
        profile=PermissionProfile(name="p", shell_working_dir=places["profile"]),
    )
    call = {"name": "bash", "arguments": {"command": "pwd"}}
    client = ScriptedModel([{"tool_calls": [call]}, {"text": "There."}])
    async with Session(Agent(config), client=client) as session:
        result = await session.run("Where?")
    (told,) = [event.tool_result for event in result.events if event.type == "tool_end"]
    assert told is not None
    assert json.loads(told)["output"] == places[found]


@pytest.mark.rows("S-53")
def test_the_directory_of_daytona_is_where_its_images_have_one() -> None:
    assert DaytonaBackend.default_working_dir == "/home/daytona"


@pytest.mark.rows("S-53")
def test_the_tools_are_the_same_on_every_backend() -> None:
    specs = [
        Agent(AgentConfig(profile="developer", backend=backend)).registry.get_specs()
        for backend in (LocalBackend(), DaytonaBackend())
    ]
    assert specs[0] == specs[1]
    names = {spec["function"]["name"] for spec in specs[0]}
    assert {"bash", "read", "write", "edit", "glob", "grep", "list"} <= names
