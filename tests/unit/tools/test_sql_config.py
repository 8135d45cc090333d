"""The `databases` of a configuration: what is accepted, and that no error tells a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError
from paddock.runtime.tools.sql.config import (
    OracleDatabase,
    ServerDatabase,
    SqliteDatabase,
    parse_databases,
)

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-and-more"
SERVER: dict[str, Any] = {
    "type": "postgres", "host": "db", "database": "sales", "user": "reader", "password": SECRET,
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.db"
    path.touch()
    return path


@pytest.mark.rows("S-49")
def test_each_kind_of_database_has_its_fields_and_defaults(file: Path) -> None:
    found = parse_databases(
        {
            "local": {"type": "sqlite", "path": str(file), "timeout": 5},
            "sales": SERVER,
            "shop": {**SERVER, "type": "mysql", "port": "3307", "tls_ca": "/ca.pem"},
            "meter": {
                "type": "oracle", "host": "o", "service_name": "X", "user": "u", "password": SECRET,
            },
        }
    )  # fmt: skip
    assert found["local"] == SqliteDatabase(alias="local", path=file, timeout=5)
    assert found["sales"] == ServerDatabase(
        type="postgres", alias="sales", host="db", port=5432, database="sales", user="reader",
        password=SECRET,
    )  # fmt: skip
    assert isinstance(found["shop"], ServerDatabase)
    assert (found["shop"].type, found["shop"].port) == ("mysql", 3307)
    assert isinstance(found["meter"], OracleDatabase)
    assert (found["meter"].type, found["meter"].port) == ("oracle", 1521)
    assert SECRET not in repr(found)


@pytest.mark.rows("S-49", "C53")
def test_variables_of_the_environment_are_put_in_once_and_never_again() -> None:
    environment = {"PASSWORD": "${HOME}$PASSWORD", "HOME": "/root", "PORT": "6543"}
    given = {**SERVER, "password": "a${PASSWORD}b", "port": "${PORT}", "user": "$HOME"}
    found = parse_databases({"x": given}, environment=environment)["x"]
    assert isinstance(found, ServerDatabase)
    assert (found.password, found.port, found.user) == ("a${HOME}$PASSWORDb", 6543, "$HOME")
    assert given["password"] == "a${PASSWORD}b"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_TEST_PASSWORD", SECRET)
    found = parse_databases({"x": {**SERVER, "password": "${PADDOCK_TEST_PASSWORD}"}})["x"]
    assert found.password == SECRET


def test_no_databases_are_none() -> None:
    assert parse_databases(None) == {}


@pytest.mark.rows("S-49", "C53")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "db2"}, "type must be one of sqlite, postgres, mysql, oracle"),
        ({"type": "vertica"}, "there is no tool for vertica: no parser here knows its functions"),
        ({}, "type must be one of"),
        ("sqlite:///x", "must be a mapping"),
        ({"type": "sqlite"}, "path is missing"),
        ({"type": "sqlite", "path": "/no/such/file.db"}, "there is no file /no/such/file.db"),
        ({"type": "sqlite", "path": "/", "host": "x"}, "'host' is no field of a sqlite database"),
        ({**SERVER, "host": None}, "host is missing"),
        ({**SERVER, "user": ""}, "user is missing"),
        ({**SERVER, "user": "${NOT_THERE}"}, "variable NOT_THERE is not set"),
        ({**SERVER, "password": "${HOME:-" + SECRET + "}"}, "only ${NAME} is replaced"),
        ({**SERVER, "password": "${" + SECRET}, "only ${NAME} is replaced"),
        ({**SERVER, "pasword": SECRET}, "'pasword' is no field of a postgres database"),
        ({**SERVER, f"password:{SECRET}": None}, "a key is no field of a postgres database"),
        ({**SERVER, "password": [SECRET]}, "password must be text"),
        ({**SERVER, "password": SECRET + "\0"}, "a character that no database takes"),
        ({**SERVER, "port": "http"}, "port must be a number"),
        ({**SERVER, "port": 70000}, "port must be more than 0"),
        ({**SERVER, "timeout": True}, "timeout must be a number"),
        ({**SERVER, "timeout": "nan"}, "timeout must be more than 0"),
    ],
)
def test_what_is_wrong_is_told_by_name_and_without_the_value(given: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_databases({"main": given}, environment={})
    assert message in str(caught.value)
    assert "databases.main" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("alias", ["", "a b", "1", 5, "x" * 65])
def test_a_name_that_is_none_is_refused(alias: object) -> None:
    with pytest.raises(ConfigError, match="a name has letters"):
        parse_databases({alias: SERVER})  # type: ignore[dict-item]


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a mapping of names"):
        parse_databases(["x"])  # type: ignore[arg-type]
