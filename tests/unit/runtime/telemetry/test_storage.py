"""The telemetry database: its tables, what can be asked, several processes at once, no room."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock import TelemetryStorage, Usage
from paddock.runtime.models.pricing import cost_usd

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("O-19")

COLUMNS = {
    "sessions": "session_id team_id project_id agent_id environment profile model started_at "
    "ended_at status total_input_tokens total_output_tokens total_reasoning_tokens "
    "total_tool_calls context_size metadata",
    "costs": "session_id cost_usd",
    "turns": "turn_id session_id turn_index started_at ended_at input_tokens output_tokens "
    "reasoning_tokens context_size user_input",
    "tool_executions": "execution_id turn_id tool_name arguments result success error "
    "duration_ms started_at",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "telemetry.db"


def add_session(storage: TelemetryStorage, name: str, **values: Any) -> None:
    row = {
        "session_id": name,
        "team_id": "blue",
        "project_id": "search",
        "model": "gpt-5-mini",
        "started_at": "2100-01-01T00:00:00+00:00",
    } | values
    names = ", ".join(row)
    places = ", ".join(f":{each}" for each in row)
    storage.write([(f"INSERT INTO sessions ({names}) VALUES ({places})", row)])


def add_call(storage: TelemetryStorage, session: str, tool: str, *, success: int, ms: int) -> None:
    turn = f"{session}-turn"
    storage.write(
        [
            (
                "INSERT OR IGNORE INTO turns (turn_id, session_id, turn_index, started_at)"
                " VALUES (:turn, :session, 1, '2100')",
                {"turn": turn, "session": session},
            ),
            (
                "INSERT INTO tool_executions VALUES"
                " (lower(hex(randomblob(8))), :turn, :tool, '{}', NULL, :success, NULL, :ms, '2')",
                {"turn": turn, "tool": tool, "success": success, "ms": ms},
            ),
        ]
    )


def test_the_tables_are_those_that_readers_know(path: Path) -> None:
    TelemetryStorage(path).close()
    with sqlite3.connect(path) as connection:
        tables = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        found = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in tables
        }
        mode = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()
    assert found == {table: names.split() for table, names in COLUMNS.items()}
    assert mode == ("wal",)


def test_the_file_is_its_owners_alone(path: Path) -> None:
    TelemetryStorage(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_sessions_are_listed_newest_first(path: Path) -> None:
    with TelemetryStorage(path) as storage:
        for number in range(3):
            add_session(storage, f"s{number}", started_at=f"210{number}")
        add_session(storage, "other", team_id="red", started_at="2000")
        names = [row["session_id"] for row in storage.list_sessions(2)]
        assert names == ["s2", "s1"]
        assert len(storage.list_sessions(None)) == 4
        assert [row["session_id"] for row in storage.list_sessions(team_id="red")] == ["other"]
        assert storage.list_sessions(1)[0]["status"] == "active"
        assert storage.list_sessions(1)[0]["metadata"] == {}


def test_a_session_that_is_not_there_is_none(path: Path) -> None:
    with TelemetryStorage(path) as storage:
        assert storage.get_session("gone") is None
        assert storage.get_session_detail("gone") is None


def test_costs_are_summed_by_tenant_time_and_model(path: Path) -> None:
    million = {"total_input_tokens": 1_000_000, "total_output_tokens": 1_000_000}
    with TelemetryStorage(path) as storage:
        add_session(storage, "a", **million, total_tool_calls=2)
        add_session(storage, "b", **million)
        add_session(storage, "c", model="scripted:x", total_input_tokens=5)
        add_session(storage, "old", started_at="2001-01-01T00:00:00+00:00", **million)
        add_session(storage, "else", project_id="other", **million)
        costs = storage.get_cost_summary("blue", "search", 30)
        assert storage.get_cost_summary("blue", "search", None)["sessions"] == 4
        assert storage.get_cost_summary("red")["sessions"] == 0
    assert (costs["sessions"], costs["input_tokens"], costs["tool_calls"]) == (3, 2_000_005, 2)
    by_model = {model["model"]: model for model in costs["by_model"]}
    assert by_model["gpt-5-mini"]["cost_usd"] > 1.0
    assert by_model["scripted:x"]["cost_usd"] == 0.0
    assert costs["cost_usd"] == by_model["gpt-5-mini"]["cost_usd"]


def test_what_model_calls_cost_counts_and_not_the_price_list(path: Path) -> None:
    with TelemetryStorage(path) as storage:
        add_session(storage, "a", total_input_tokens=1_000_000)
        add_session(storage, "old", total_input_tokens=1_000_000)
        storage.write([("INSERT INTO costs VALUES ('a', 0.015625)", {})])
        (model,) = storage.get_cost_summary()["by_model"]
    assert model["cost_usd"] == 0.015625 + cost_usd("gpt-5-mini", Usage(input_tokens=1_000_000))


def test_tools_are_counted(path: Path) -> None:
    with TelemetryStorage(path) as storage:
        add_session(storage, "a")
        add_call(storage, "a", "bash", success=1, ms=10)
        add_call(storage, "a", "bash", success=0, ms=30)
        add_call(storage, "a", "read", success=1, ms=1)
        bash, read = storage.get_tool_stats("blue", "search")
        assert storage.get_tool_stats("red") == []
    assert bash == {
        "tool_name": "bash",
        "calls": 2,
        "successes": 1,
        "failures": 1,
        "average_ms": 20.0,
        "longest_ms": 30.0,
    }
    assert read["calls"] == 1


def test_a_batch_is_written_whole_or_not_at_all(path: Path) -> None:
    with TelemetryStorage(path) as storage:
        add_session(storage, "a")
        with pytest.raises(sqlite3.IntegrityError):
            storage.write(
                [
                    ("UPDATE sessions SET status = 'completed'", {}),
                    ("INSERT INTO sessions (session_id) VALUES ('a')", {}),
                ]
            )
        assert storage.list_sessions()[0]["status"] == "active"


def test_who_only_reads_cannot_write_or_make_a_database(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TelemetryStorage(path, read_only=True)
    with TelemetryStorage(path) as writer, TelemetryStorage(path, read_only=True) as reader:
        add_session(writer, "a")
        assert len(reader.list_sessions()) == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            add_session(reader, "b")


def test_a_file_that_is_no_database_is_an_error(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Not a database, but a text that is long enough to look at." * 20)
    with pytest.raises(sqlite3.DatabaseError):
        TelemetryStorage(path)


ADD = """
import sys
from paddock.runtime.telemetry import TelemetryStorage
with TelemetryStorage(sys.argv[1]) as storage:
    for number in range(50):
        values = {"name": f"{sys.argv[2]}-{number}"}
        storage.write([("INSERT INTO sessions (session_id, team_id, project_id, started_at)"
                        " VALUES (:name, 't', 'p', '2100')", values)])
"""


def test_processes_make_and_write_one_database_at_once(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", ADD, path, str(number)])
        for number in range(4)
    ]
    assert [writer.wait(30) for writer in writers] == [0] * 4
    with TelemetryStorage(path, read_only=True) as storage:
        assert len(storage.list_sessions(None)) == 200
