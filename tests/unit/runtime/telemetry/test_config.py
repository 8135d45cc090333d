"""Where the settings of telemetry are from, and what is wrong with a file says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError
from paddock.runtime.core.yamltext import MAX_BYTES
from paddock.runtime.telemetry import (
    Capture,
    ObservabilityConfig,
    OtlpBackend,
    SqliteBackend,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("O-18")

WHOLE = """\
observability:
  enabled: false
  tenant: {team_id: blue, project_id: search}
  backend:
    type: otlp
    sqlite: {path: ~/elsewhere.db}
    otlp: {endpoint: "https://collect.example:4317", insecure: false, headers: {key: value}}
  capture: {traces: false, metrics: false, tool_arguments: false, tool_results: true}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without settings; where their configuration is kept."""
    for name in ("TEAM_ID", "PROJECT_ID", "OBSERVABILITY_CONFIG"):
        monkeypatch.delenv(f"PADDOCK_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    folder = tmp_path / ".config" / "paddock"
    folder.mkdir(parents=True)
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def tenant(config: ObservabilityConfig) -> tuple[str | None, str | None]:
    return config.team_id, config.project_id


def test_without_a_file_the_defaults_hold(home: Path) -> None:
    config = ObservabilityConfig.load()
    assert config == ObservabilityConfig(backend=SqliteBackend(path=home / "telemetry.db"))
    assert config.capture == Capture(
        traces=True, metrics=True, tool_arguments=True, tool_results=False
    )
    assert OtlpBackend().endpoint == "http://localhost:4317"


def test_a_file_says_everything(tmp_path: Path) -> None:
    path = write(tmp_path / "own.yaml", WHOLE)
    assert ObservabilityConfig.from_file(path) == ObservabilityConfig(
        enabled=False,
        team_id="blue",
        project_id="search",
        backend=OtlpBackend(
            endpoint="https://collect.example:4317", insecure=False, headers={"key": "value"}
        ),
        capture=Capture(traces=False, metrics=False, tool_arguments=False, tool_results=True),
        path=path,
    )


def test_the_root_of_a_file_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "own.yaml", "backend: {sqlite: {path: ~/mine.db}}\ncapture:\n")
    assert ObservabilityConfig.from_file(path).backend == SqliteBackend(path=tmp_path / "mine.db")


@pytest.mark.parametrize("text", ["", "observability:\n", "# nothing\n"])
def test_an_empty_file_is_the_defaults(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "own.yaml", text)
    assert ObservabilityConfig.from_file(path) == ObservabilityConfig(path=path)


def test_a_named_file_goes_before_arguments_and_these_before_the_environment(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / "observability.yaml", "tenant: {team_id: own, project_id: own}")
    assert tenant(ObservabilityConfig.load()) == ("own", "own")
    monkeypatch.setenv("PADDOCK_TEAM_ID", "env")
    assert tenant(ObservabilityConfig.load()) == ("env", "own")
    assert tenant(ObservabilityConfig.load(project_id="argument")) == ("env", "argument")
    assert tenant(ObservabilityConfig.load(team_id="argument")) == ("argument", "own")
    named = write(tmp_path / "named.yaml", "tenant: {team_id: named}")
    found = ObservabilityConfig.load(named, team_id="argument", project_id="argument")
    assert tenant(found) == ("named", "argument")
    assert tenant(ObservabilityConfig.load(named)) == ("named", None), "one file is read"


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "named.yaml", "tenant: {team_id: file, project_id: file}")
    monkeypatch.setenv("PADDOCK_OBSERVABILITY_CONFIG", str(path))
    assert tenant(ObservabilityConfig.load(team_id="argument")) == ("argument", "file")
    assert ObservabilityConfig.load().path == path


def test_a_named_file_that_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        ObservabilityConfig.load(tmp_path / "gone.yaml")
    monkeypatch.setenv("PADDOCK_OBSERVABILITY_CONFIG", str(tmp_path / "lost.yaml"))
    with pytest.raises(FileNotFoundError, match=r"lost\.yaml"):
        ObservabilityConfig.load()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tenat: {}", "tenat: there is no such key; did you mean tenant?"),
        ("tenant: {team: a}", "tenant.team: there is no such key; did you mean tenant.team_id?"),
        ("tenant: {x: a}", "tenant.x: there is no such key; there are: team_id, project_id"),
        ("team_id: blue", "team_id: there is no such key; did you mean tenant.team_id?"),
        ("backend: {type: sqlit}", "backend.type: Input should be 'sqlite' or 'otlp'"),
        ("capture: {traces: 1}", "capture.traces: Input should be a valid boolean"),
        ("backend: {sqlite: {path: ''}}", "backend.sqlite.path: give a text that is not empty"),
        (
            "backend: {type: otlp, otlp: {endpoint: 'collect:4317'}}",
            "backend.otlp.endpoint: 'collect:4317' is no http:// or https:// address",
        ),
        (
            "backend: {type: otlp, otlp: {insecure: false}}",
            "backend.otlp.endpoint: http://localhost:4317 is not encrypted; "
            "give an https endpoint or set insecure",
        ),
        ("- a list", "an observability file holds a mapping"),
        ("tenant: {}\ntenant: {}", "line 2: 'tenant' is given twice"),
        ("a: b: c", "line 1: not valid YAML"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path / "own.yaml", text)
    with pytest.raises(ConfigError) as caught:
        ObservabilityConfig.from_file(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "own.yaml", "#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        ObservabilityConfig.from_file(path)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4317", "http://localhost:4318/v1/traces"),
        ("http://[::1]:4317/", "http://[::1]:4318/v1/traces"),
        ("https://collect.example/otlp/", "https://collect.example/otlp/v1/traces"),
        ("http://127.0.0.1:9999", "http://127.0.0.1:9999/v1/traces"),
    ],
)
def test_spans_go_where_a_collector_listens_for_http(endpoint: str, url: str) -> None:
    assert OtlpBackend(endpoint=endpoint).url("traces") == url


def test_headers_that_may_be_keys_are_in_no_repr() -> None:
    backend = OtlpBackend(headers={"Authorization": "Bearer of-the-collector"})
    assert "of-the-collector" not in repr(ObservabilityConfig(backend=backend))
