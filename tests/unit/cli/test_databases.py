"""The file of databases of whoever is at the terminal."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.cli.databases import with_databases
from paddock.errors import ConfigError
from paddock.runtime.agents.config import AgentConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    Paddock = Callable[..., subprocess.CompletedProcess[str]]

SECRET = "hunter2-and-more"
SALES = {"type": "postgres", "host": "db", "database": "sales", "user": "reader"}
FLOW = "{type: postgres, host: db, database: sales, user: reader, password: %s}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the user's configuration."""
    monkeypatch.delenv("PADDOCK_DB_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "paddock").mkdir()
    return tmp_path / "paddock"


@pytest.fixture
def paddock(tmp_path: Path) -> Paddock:
    """``paddock(...)`` is the program, whose model asks one database how many rows there are."""
    query = "{operation: query, sql: SELECT count(*) AS n FROM items}"
    turns = f"- tool_calls: [{{name: sqlite, arguments: {query}}}]\n- text: Done.\n"
    (tmp_path / "script.yaml").write_text(turns * 2)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE items AS SELECT 4711 AS name")

    def running(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "paddock", *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return running


def results(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the calls of a run gave, of the trace that was printed."""
    assert done.returncode == 0, done.stderr
    records = map(json.loads, done.stdout.splitlines())
    return [each["result"] for each in records if each["type"] == "tool_end"]


@pytest.mark.rows("S-49")
def test_an_agent_on_the_command_line_asks_the_databases_of_the_users_file(
    paddock: Paddock, tmp_path: Path
) -> None:
    own = tmp_path / ".config/paddock"
    own.mkdir(parents=True)
    (own / "databases.yaml").write_text("shop: {type: sqlite, path: shop.db}\n")
    (result,) = results(paddock("run", "How many?", "-m", "scripted:script.yaml", "-y", "--json"))
    assert "| n |" in result
    (resumed,) = results(paddock("sessions", "resume", "latest", "And now?", "-y", "--json"))
    assert resumed == result


@pytest.mark.rows("S-49")
def test_a_variable_of_the_environment_names_another_file(paddock: Paddock, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("databases:\n  shop: {type: sqlite, path: shop.db}\n")
    asked = ("run", "How many?", "-m", "scripted:script.yaml", "-y", "--json", "--no-save")
    (result,) = results(paddock(*asked, PADDOCK_DB_CONFIG="other.yaml"))
    assert "| n |" in result


def test_a_file_that_is_named_has_to_be_there(paddock: Paddock) -> None:
    done = paddock("run", "How many?", PADDOCK_DB_CONFIG="absent.yaml")
    assert done.returncode == 1
    assert done.stderr == "paddock: PADDOCK_DB_CONFIG: there is no file absent.yaml\n"


def test_without_a_file_there_are_no_databases(home: Path) -> None:
    assert with_databases(AgentConfig(), file=None, saved=False).databases is None


def test_an_agent_that_names_databases_has_those_alone(home: Path) -> None:
    (home / "databases.yaml").write_text("other: {type: bad}\n")
    config = AgentConfig(databases={"sales": SALES})
    assert with_databases(config, file=Path("agent.yaml"), saved=False) == config


def test_what_is_wrong_in_the_agents_file_is_told_with_its_place_too(home: Path) -> None:
    config = AgentConfig(databases={"sales": {**SALES, "type": SECRET}})
    with pytest.raises(ConfigError, match=r"^agent\.yaml: databases\.sales\.type") as caught:
        with_databases(config, file=Path("agent.yaml"), saved=False)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[shop]\n", "give a mapping of names to databases"),
        ("shop: sqlite:///x\n", "databases.shop must be a mapping"),
        ("shop: {type: vertigo}\n", "databases.shop.type must be one of"),
        ("shop: {type: sqlite, path: /no/such.db}\n", "there is no file /no/such.db"),
        (f"a: {FLOW % SECRET}\na: {FLOW % SECRET}\n", "line 2: 'a' is given twice"),
        (f"a: {FLOW % ('*' + SECRET)}\n", "line 1: not valid YAML: an alias (*) of nothing"),
        (f"a: {FLOW % ('&' + SECRET + ' 1, b: &' + SECRET)}\n", "line 1: not valid YAML"),
        (f"a: {FLOW % ('!' + SECRET + ' x')}\n", "line 1: a tag that is not read"),
        (f"a: {FLOW % ('@' + SECRET)}\n", "line 1: not valid YAML"),
        (f"a: {FLOW % ('[' + SECRET + ']')}\n", "databases.a.password must be text"),
        (f"a: {FLOW % SECRET}\n".replace("d: ", "d:"), "a key is no field of a postgres database"),
        (f"postgres://reader:{SECRET}@db:\n", "a name has letters"),
        ("a: " + FLOW % "'${SALES_PASSWORD}'" + "\n", "variable SALES_PASSWORD is not set"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_place_and_no_password(
    home: Path, text: str, message: str
) -> None:
    path = home / "databases.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        with_databases(AgentConfig(), file=None, saved=False)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_password_of_the_file_is_in_no_repr_and_no_saved_configuration(home: Path) -> None:
    (home / "databases.yaml").write_text(f"sales: {FLOW % SECRET}\n")
    config = with_databases(AgentConfig(), file=None, saved=False)
    assert config.databases == {"sales": {**SALES, "password": SECRET}}
    assert SECRET not in repr(config)
    assert SECRET.encode() not in config.to_yaml(partial=True)


@pytest.mark.parametrize(
    ("changed", "password"), [({}, SECRET), ({"host": "elsewhere"}, None), ({"extra": 1}, None)]
)
def test_a_saved_session_gets_back_the_password_of_the_same_database_only(
    home: Path, changed: dict[str, Any], password: str | None
) -> None:
    (home / "databases.yaml").write_text(f"sales: {FLOW % SECRET}\nshop: {FLOW % SECRET}\n")
    saved = AgentConfig(databases={"sales": {**SALES, **changed, "password": None}})
    again = with_databases(saved, file=None, saved=True).databases
    assert again == {"sales": {**SALES, **changed, "password": password}}


def test_a_saved_session_that_lacks_no_password_reads_no_file(home: Path) -> None:
    (home / "databases.yaml").write_text("[no, mapping]\n")
    saved = AgentConfig(databases={"sales": SALES})
    assert with_databases(saved, file=None, saved=True) == saved
