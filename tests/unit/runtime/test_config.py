"""What an agent is: its configuration, its file, its system prompt."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError
from paddock.runtime.agent import Agent
from paddock.runtime.config import AgentConfig
from paddock.runtime.permissions import PermissionProfile
from paddock.runtime.prompts import read_prompt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import CountingBackend


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "PADDOCK_PROFILE", "PADDOCK_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_defaults_are_the_documented_ones() -> None:
    config = AgentConfig()
    assert (config.model, config.profile, config.backend) == ("gpt-5-mini", None, "local")
    assert (config.auto_approve, config.vars, config.extras) == (True, {}, {})


def test_the_environment_gives_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "small")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("PADDOCK_PROFILE", "developer")
    config = AgentConfig()
    assert (config.model, config.base_url) == ("small", "http://127.0.0.1:1/v1")
    assert config.profile == "developer"
    assert AgentConfig(model="large").model == "large"


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    config = AgentConfig(
        system_prompt="Héllo\nyou",
        vars={"a": "1"},
        profile="developer",
        working_dir="/work",
        response_format={"type": "json_object"},
        auto_approve=False,
        extras={"team": "blue", "n": 3},
    )
    path = tmp_path / "deep" / "agent.yaml"
    config.to_file(path)
    assert AgentConfig.from_file(path) == config
    text = path.read_text()
    assert text.index("system_prompt") < text.index("vars") < text.index("team")
    assert "service_tier" not in text


def test_a_profile_object_survives_the_file_too(tmp_path: Path) -> None:
    config = AgentConfig(profile=PermissionProfile(name="mine", shell_timeout=7.0))
    config.to_file(tmp_path / "a.yaml")
    assert AgentConfig.from_file(tmp_path / "a.yaml").profile == config.profile
    assert Agent(config).registry.profile == config.profile


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "must contain a YAML mapping"),
        ("model: [a]\n", "model has to be text, not list"),
        ("auto_approve: maybe\n", "auto_approve has to be true or false"),
        ("a: [\n", "line"),
        ("x: !!python/object/apply:os.system [ls]\n", "python"),
        ("x" * 1_100_000, "larger than"),
    ],
)
def test_a_file_that_is_no_config_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        AgentConfig.from_file(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Config file not found"):
        AgentConfig.from_file(tmp_path / "none.yaml")


@pytest.mark.parametrize("profile", [None, "readonly", PermissionProfile(name="x")])
def test_a_profile_may_be_given_in_any_form(profile: Any) -> None:
    assert "read" in Agent(AgentConfig(profile=profile)).registry


def test_the_working_directory_of_the_config_is_the_backends(backend: CountingBackend) -> None:
    config = AgentConfig(backend=backend, working_dir="/there")
    assert Agent(config).create_backend().working_dir == "/there"
    assert Agent(dataclasses.replace(config, working_dir=None)).create_backend() is backend
    with pytest.raises(ConfigError, match="no backend is called"):
        Agent(AgentConfig(backend="nowhere")).create_backend()


def test_without_a_prompt_there_is_a_built_in_one_and_the_users_own_goes_before(
    tmp_path: Path,
) -> None:
    agent = Agent(AgentConfig(profile="developer", working_dir="/w"))
    assert "developer" in agent.system_prompt
    assert "/w" in agent.system_prompt
    own = tmp_path / "config" / "paddock" / "default.md"
    own.parent.mkdir(parents=True)
    own.write_text("Mine, under {{ profile_name }}, on {{ platform }}.")
    assert AgentConfig().resolve_system_prompt().startswith("Mine, under readonly, on ")
    assert AgentConfig(system_prompt="Literal.").resolve_system_prompt() == "Literal."


def test_a_prompt_file_is_rendered_with_its_variables(tmp_path: Path) -> None:
    path = tmp_path / "prompt.md"
    path.write_text(
        "---\ndescription: A test\nvariables:\n  team: {required: true}\n  tone: calm\n"
        "initial_prompt: Begin.\n---\n{% if team %}\nTeam {{ team }}, {{ tone }}.\n{% endif %}\n"
    )
    config = AgentConfig(system_prompt=str(path), vars={"team": "{{ 7*7 }}", "unused": "x"})
    assert config.resolve_system_prompt() == "Team {{ 7*7 }}, calm.\n"
    prompt = read_prompt(path)
    assert (prompt.description, prompt.initial_prompt) == ("A test", "Begin.")
    with pytest.raises(ValueError, match="Missing required variable: team"):
        AgentConfig(system_prompt=str(path)).resolve_system_prompt()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("---\na: [\n---\nx", "line"),
        ("---\n- a\n---\nx", "mapping"),
        ("---\nvariables: [a]\n---\nx", "mapping"),
        ("a\n{% if %}", "line 2"),
        ("{{ unknown }}", "unknown"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|__class__"),
    ],
)
def test_a_prompt_file_that_is_none_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "prompt.md"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        AgentConfig(system_prompt=str(path)).resolve_system_prompt()
