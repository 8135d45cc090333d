"""What leaves a database for a file, and large objects that are read from their beginnings."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Agent, AgentConfig, ScriptedModel, Session
from paddock.backends.local import LocalBackend
from paddock.redaction import NOTHING_SECRET, Redactor
from paddock.runtime.tools.sql import bounds
from paddock.runtime.tools.sql.config import parse_databases
from paddock.runtime.tools.sql.servers import server_for
from paddock.runtime.tools.table import Beginning, CsvText, render_table

if TYPE_CHECKING:
    from pathlib import Path

SECRET = 'correct "horse", battery'
NUMBER = "8005551234567890"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE notes (text, data, number, [{NUMBER}])")
        values = (f"the key is {SECRET}.", SECRET.encode(), int(NUMBER))
        connection.execute("INSERT INTO notes VALUES (?, ?, ?, NULL)", values)
    return path


@pytest.mark.rows("S-49", "C49")
async def test_an_exported_file_holds_no_secret_of_the_session(
    database: Path, tmp_path: Path
) -> None:
    sql = "SELECT * FROM notes"
    arguments = {"operation": "export_query", "sql": sql, "export_path": "notes.csv"}
    config = AgentConfig(
        backend=LocalBackend(isolation="none", working_dir=str(tmp_path / "work")),
        databases={"notes": {"type": "sqlite", "path": str(database)}},
        secrets={"KEY": SECRET, "PHONE": NUMBER},
    )
    client = ScriptedModel(
        [{"tool_calls": [{"name": "sqlite", "arguments": arguments}]}, {"text": "Done."}]
    )
    async with Session(Agent(config), client=client) as session:
        result = await session.run("Export the notes.")
        sandbox = await session.get_sandbox()
        text = (await sandbox.fs.read_bytes("notes.csv")).decode()
    assert result.status == "completed"
    hidden = "0x" + b"[secret KEY]".hex()
    assert list(csv.reader(io.StringIO(text))) == [
        ["text", "data", "number", "[secret PHONE]"],
        ["the key is [secret KEY].", hidden, "[secret PHONE]", ""],
    ]


def test_a_value_of_which_only_a_beginning_came_ends_with_no_part_of_a_secret() -> None:
    text = CsvText(("a", "b", "c"), Redactor({"KEY": SECRET}))
    begun = SECRET[:12]
    text.add((Beginning(text=f"x{begun}", size=99), Beginning(text=begun.encode(), size=99), None))
    assert text.encode() == b"a,b,c\r\nx,0x,\r\n"
    assert (text.rows, text.cut) == (1, 2)


class Lob:
    """A large object as Oracle's driver has them."""

    def __init__(self, value: str | bytes) -> None:
        self._value = value
        self.read_up_to = 0

    def size(self) -> int:
        return len(self._value)

    def read(self, offset: int = 1, amount: int | None = None) -> str | bytes:
        end = len(self._value) if amount is None else offset - 1 + amount
        self.read_up_to = max(self.read_up_to, end)
        return self._value[offset - 1 : end]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("short", "short"),
        ("", ""),
        ("y" * 9000, "y" * 200 + "... (9000 characters)"),
        (b"\x01" * 9000, "0x" + "01" * 32 + "... (9000 bytes)"),
    ],
)
def test_a_large_object_is_read_from_its_beginning_and_no_further(
    value: str | bytes, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_ROW", 2000)
    given = {
        "type": "oracle", "host": "o", "service_name": "X", "user": "u", "password": "long-enough",
    }  # fmt: skip
    server = server_for(parse_databases({"main": given})["main"], mutations=False)
    lob = Lob(value)
    table = render_table(("a", "b"), [server.row((7, lob))], NOTHING_SECRET)
    assert f"| 7 | {shown.ljust(1)} |" in table
    assert lob.read_up_to <= 1000


def test_the_driver_of_oracle_is_told_to_leave_large_objects_where_they_are() -> None:
    given = {
        "type": "oracle", "host": "o", "service_name": "X", "user": "u", "password": "long-enough",
    }  # fmt: skip
    engine = server_for(parse_databases({"main": given})["main"], mutations=False).engine
    dialect: Any = engine.dialect
    assert not dialect.auto_convert_lobs
    assert dialect.arraysize == 10
    assert engine.url.query == {"service_name": "X"}
