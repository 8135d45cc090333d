"""What is accepted, once, whatever comes late."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError
from paddock.runtime.fleet.ledger import Attempt, Ledger, LedgerError
from paddock.runtime.fleet.tasks import folder_name, parse_tasks, read_tasks, repeated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger.db")
    found.add(parse_tasks([{"id": "a"}, {"id": "b"}]))
    yield found
    found.close()


def state_of(ledger: Ledger, key: str, number: int) -> str:
    with sqlite3.connect(ledger.path) as db:
        query = "SELECT state FROM attempts WHERE key = ? AND number = ?"
        found = db.execute(query, (key, number)).fetchone()[0]
    db.close()
    return str(found)


def test_a_late_attempt_is_superseded_and_a_second_end_too(ledger: Ledger) -> None:
    first = ledger.begin("a")
    assert ledger.lose_running() == 1
    second = ledger.begin("a")
    assert (first, second) == (1, 2)
    assert not ledger.finish(Attempt(key="a", number=first, result='"late"'))
    assert ledger.finish(Attempt(key="a", number=second, result='"current"'))
    assert not ledger.finish(Attempt(key="a", number=second, result='"again"'))
    assert [each.attempt.result for each in ledger.finished()] == ['"current"']
    assert state_of(ledger, "a", 1) == "superseded"
    assert ledger.counts() == {"completed": 1, "pending": 1}


def test_a_finished_task_does_not_begin_again_unless_it_is_reopened(ledger: Ledger) -> None:
    ledger.finish(Attempt(key="a", number=ledger.begin("a"), fault="task.failed", message="no"))
    with pytest.raises(LedgerError, match="not pending"):
        ledger.begin("a")
    assert ledger.reopen(["a", "b"]) == 1
    assert ledger.begin("a") == 2


def test_tries_count_by_fault_and_can_be_given_back(ledger: Ledger) -> None:
    for fault in ("infra.lost", "infra.provision", "infra.model"):
        attempt = Attempt(key="a", number=ledger.begin("a"), fault=fault)
        ledger.give_back(attempt, counted=True)
    assert ledger.tries("a", {"infra.lost", "infra.provision"}) == 2
    ledger.uncount([("a", 1)])
    assert ledger.tries("a", {"infra.lost", "infra.provision"}) == 1


def test_changed_tasks_begin_again_and_others_keep_what_they_have(ledger: Ledger) -> None:
    for key in ("a", "b"):
        ledger.finish(Attempt(key=key, number=ledger.begin(key)))
    assert ledger.change(parse_tasks([{"id": "a"}, {"id": "c"}])) == (1, 1)
    assert ledger.states() == [("a", "completed", 1), ("c", "pending", 0)]
    assert ledger.change(parse_tasks([{"id": "a", "n": 1}, {"id": "b"}])) == (2, 1)
    assert ledger.begin("b") == 2, "an attempt's number never comes again"


def test_the_file_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    (tmp_path / "ledger.db").chmod(0o600)
    with pytest.raises(LedgerError, match="another program"):
        Ledger(tmp_path / "ledger.db")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([{"id": "a"}, {"id": "a"}], "task 2 has the id 'a' as task 1"),
        ([{"id": "1"}, {"id": 1}], "task 2 has the id '1' as task 1"),
        (["x", "x"], "task 2 has the same content as task 1"),
        ([{"id": None}], "has to be a text or a whole number"),
        ([{"id": "a\nb"}], "printable"),
        ([float("nan")], "cannot be written as JSON"),
        ([object()], "cannot be written as JSON"),
    ],
)
def test_tasks_that_cannot_be_told_apart_are_refused(values: list[object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list(parse_tasks(values))


def test_a_task_without_an_id_is_known_by_its_content() -> None:
    one, other = parse_tasks([{"b": 1, "a": "ä"}, {"a": "ä", "b": 2}])
    assert [each.key for each in parse_tasks([{"a": "ä", "b": 1}])] == [one.key]
    assert one.key != other.key
    assert [each.key for each in repeated([one], 2)] == [f"{one.key}@1", f"{one.key}@2"]


def test_lines_are_split_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes('"a\u2028b\x85"\n\n{"id": 1}\r\n'.encode())
    assert list(read_tasks(path)) == ["a\u2028b\x85", {"id": 1}]
    path.write_text('1\n{"id": \n')
    with pytest.raises(ConfigError, match=r"tasks.jsonl, line 2 is not JSON"):
        list(read_tasks(path))


def test_no_two_keys_have_one_folder_and_none_leads_elsewhere() -> None:
    keys = ["..", ".", "a/b", "a%2Fb", ".a", "%2Ea", "x" * 1000, "x" * 999, "ä" * 300, "@", "a b"]
    names = [folder_name(key) for key in keys]
    assert len({*names}) == len(keys)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name.encode()) <= 220


def test_a_clock_that_goes_back_makes_no_attempt_shorter_than_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ledger.begin("a")
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert ledger.finish(Attempt(key="a", number=number))
    entry = ledger.accepted("a")
    assert entry.began > 1.0
    assert entry.ended == entry.began


def test_the_ledger_of_another_version_is_refused_as_such(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(LedgerError, match="it has format 9, and this version of Paddock reads"):
        Ledger(tmp_path / "ledger.db")
