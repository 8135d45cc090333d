"""What an agent is: its configuration, its file, its system prompt."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.permissions.profile import PermissionProfile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import CountingBackend


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "PADDOCK_PROFILE", "PADDOCK_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.mark.rows("S-2")
def test_defaults_are_the_documented_ones() -> None:
    config = AgentConfig()
    assert (config.model, config.profile, config.backend) == ("gpt-5-mini", None, "local")
    assert (config.auto_approve, config.vars, config.extras) == (True, {}, {})


@pytest.mark.rows("S-2")
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


def test_what_is_not_a_number_survives_the_file_too() -> None:
    text = b"x: .nan\ny: [{z: .NaN}, .inf, -.inf]\n"
    data = AgentConfig.from_yaml(text).to_yaml()
    assert repr(AgentConfig.from_yaml(data).extras) == "{'x': nan, 'y': [{'z': nan}, inf, -inf]}"


@pytest.mark.rows("S-5")
def test_a_file_has_the_documented_order_and_the_extras_last(tmp_path: Path) -> None:
    config = AgentConfig(
        system_prompt="Help.", vars={"a": "1"}, model="m", provider="anthropic",
        profile="developer", backend="docker", working_dir="/w", base_url="http://127.0.0.1:1",
        service_tier="flex", reasoning_effort="low", response_format={"type": "json_object"},
        databases={"main": {"type": "postgres", "password": "${PG_PASSWORD}"}},
        auto_approve=False, extras={"alpha": 1},
    )  # fmt: skip
    config.to_file(tmp_path / "a.yaml")
    names = [
        line.partition(":")[0]
        for line in (tmp_path / "a.yaml").read_text().splitlines()
        if not line.startswith(" ")
    ]
    assert names == [
        "system_prompt", "vars", "model", "provider", "profile", "backend", "working_dir",
        "base_url", "service_tier", "reasoning_effort", "response_format", "databases",
        "auto_approve", "alpha",
    ]  # fmt: skip
    assert AgentConfig.from_file(tmp_path / "a.yaml") == config


def test_the_password_of_a_database_is_neither_shown_nor_written(tmp_path: Path) -> None:
    main = {"type": "postgres", "password": "of-the-database"}
    config = AgentConfig(databases={"main": main, "files": {"type": "sqlite", "path": "a.db"}})
    assert "of-the-database" not in repr(config)
    with pytest.raises(ConfigError, match=r"databases\.main\.password") as caught:
        config.to_file(tmp_path / "a.yaml")
    assert "of-the-database" not in str(caught.value)
    assert not (tmp_path / "a.yaml").exists()
    data = config.to_yaml(partial=True)
    assert AgentConfig.from_yaml(data).databases == {
        "main": {"type": "postgres", "password": None},
        "files": {"type": "sqlite", "path": "a.db"},
    }


@pytest.mark.parametrize("password", ["pre${NAME}", "${NAME", "$NAME", 12345678, ["a-password"]])
def test_a_password_is_written_only_as_the_name_of_a_variable(password: object) -> None:
    config = AgentConfig(databases={"main": {"password": password}})
    with pytest.raises(ConfigError, match="NAME"):
        config.to_yaml()
    assert str(password).encode() not in config.to_yaml(partial=True)


def test_databases_that_cannot_be_written_are_left_out_of_what_is_partial() -> None:
    config = AgentConfig(databases={"main": {"password": "of-the-database", "path": object()}})
    assert AgentConfig.from_yaml(config.to_yaml(partial=True)).databases is None


@pytest.mark.rows("S-5")
def test_what_is_not_set_is_left_out_unless_the_environment_would_speak_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = AgentConfig(system_prompt="", working_dir="", response_format={}, databases={})
    assert empty == AgentConfig()
    assert empty.to_yaml() == b"model: gpt-5-mini\nbackend: local\nauto_approve: true\n"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    here = AgentConfig(base_url=None)
    assert b"base_url: null" in here.to_yaml()
    assert AgentConfig.from_yaml(here.to_yaml()) == here
    assert AgentConfig.from_yaml(b"model: m").base_url == "http://127.0.0.1:1/v1"


@pytest.mark.rows("S-4", "C52")
def test_a_key_that_is_nearly_a_fields_is_warned_of_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("team: blue\nmodle: small\nbase-url: x\n")
    with pytest.warns(UserWarning, match="did you mean") as warned:
        config = AgentConfig.from_file(path)
    assert [str(each.message).removeprefix(str(path)) for each in warned] == [
        ", line 2: modle is kept as an extra; did you mean model?",
        ", line 3: base-url is kept as an extra; did you mean base_url?",
    ]
    assert config.extras == {"team": "blue", "modle": "small", "base-url": "x"}
    path.write_text("extras: {a: 1}\n")
    with pytest.warns(UserWarning, match="line 1: extras is itself kept as an extra"):
        assert AgentConfig.from_file(path).extras == {"extras": {"a": 1}}


@pytest.mark.rows("C53")
def test_nothing_in_a_config_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "secret")
    text = b"system_prompt: ${WORD} $WORD ${env:WORD}\ndatabases: {a: {password: '${WORD}'}}\n"
    config = AgentConfig.from_yaml(text)
    assert config.resolve_system_prompt() == "${WORD} $WORD ${env:WORD}"
    assert config.databases == {"a": {"password": "${WORD}"}}
    assert b"secret" not in config.to_yaml()


def test_variables_are_text_as_it_is_written() -> None:
    config = AgentConfig.from_yaml(b"vars: {country: no, version: 1.10, n: 007}\n")
    assert config.vars == {"country": "no", "version": "1.10", "n": "007"}
    assert AgentConfig(vars={"n": 7}).vars == {"n": "7"}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"vars\.names has to be text, not list"):
        AgentConfig.from_yaml(b"vars: {names: [a]}\n")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ITSELF: dict[str, Any] = {}
ITSELF["again"] = ITSELF


@pytest.mark.rows("S-5")
@pytest.mark.parametrize(
    ("config", "told"),
    [
        (AgentConfig(extras={"f": len}), r"extras\.f: a builtin_function_or_method cannot"),
        (AgentConfig(extras={"f": {"g": [1, {2}]}}), r"extras\.f\.g\[2\]: a set cannot"),
        (AgentConfig(extras={"f": {1: 2}}), r"extras\.f: the key 1 is not text"),
        (AgentConfig(extras={"f": (1, 2)}), r"extras\.f cannot be written so that"),
        (AgentConfig(extras={"f": "\ud800"}), r"extras\.f: text that is not valid Unicode"),
        (AgentConfig(extras={"f": nested(99)}), r"extras\.f.*nested too deep"),
        (AgentConfig(extras=ITSELF), r"extras\.again.*a part of itself"),
        (AgentConfig(extras={"model": "m"}), r"extras\.model: this is the name of a field"),
        (AgentConfig(system_prompt="\udcff"), "system_prompt: text that is not valid Unicode"),
    ],
)
def test_what_a_file_cannot_say_is_told_by_name_and_a_partial_file_goes_without(
    config: AgentConfig, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        config.to_yaml()
    assert AgentConfig.from_yaml(config.to_yaml(partial=True)).model == config.model


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
        ("x: !!python/object/apply:os.system [ls]\n", "a tag that is not read"),
        ("x" * 1_100_000, "larger than"),
        ("a: 1\nmodel: [a]\n", "line 2: model"),
        ("backend: 5\n", "backend has to be text or a mapping, not int"),
        ("databases: [a]\n", "databases has to be a mapping"),
        ("auto_approve: yes\n", "auto_approve has to be true or false, not str"),
        ("model: a\nmodel: b\n", "line 2: 'model' is given twice"),
        ("vars: {a: [1]}\n", r"agent\.yaml, line 1: vars\.a has to be text, not list"),
        ("profile: {shell: zork}\n", r"agent\.yaml, line 1: profile: '"),
        ("\nbackend: {type: nowhere}\n", r"agent\.yaml, line 2: backend: no backend is called"),
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
    with pytest.raises(IsADirectoryError):
        AgentConfig.from_file(tmp_path)


def test_a_file_may_be_a_pipe() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"model: small\n")
    os.close(theirs)
    try:
        assert AgentConfig.from_file(f"/dev/fd/{ours}").model == "small"
    finally:
        os.close(ours)


@pytest.mark.rows("S-3")
@pytest.mark.parametrize("profile", [None, "readonly", PermissionProfile(name="x")])
def test_a_profile_may_be_given_in_any_form(profile: Any) -> None:
    assert "read" in Agent(AgentConfig(profile=profile)).registry


def test_the_working_directory_of_the_config_is_the_backends(backend: CountingBackend) -> None:
    config = AgentConfig(backend=backend, working_dir="/there")
    assert Agent(config).create_backend().working_dir == "/there"
    assert Agent(dataclasses.replace(config, working_dir=None)).create_backend() is backend
    with pytest.raises(ConfigError, match="no backend is called"):
        Agent(AgentConfig(backend="nowhere")).create_backend()


def test_the_context_window_of_a_model_survives_the_file() -> None:
    config = AgentConfig.from_yaml(b"context_window: 16000\n")
    assert config.context_window == 16_000
    assert AgentConfig.from_yaml(config.to_yaml()) == config


@pytest.mark.parametrize("written", ["much", "true", "16e3", "-1"])
def test_a_context_window_is_a_positive_whole_number(written: str) -> None:
    with pytest.raises(ConfigError, match="context_window"):
        AgentConfig.from_yaml(f"context_window: {written}\n".encode())
