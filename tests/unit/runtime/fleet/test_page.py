"""What the page of a batch shows, and how large it can become."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.fleet.ledger import Attempt, Ledger
from paddock.runtime.fleet.page import details, overview
from paddock.runtime.fleet.page.building import report_page
from paddock.runtime.fleet.page.document import document
from paddock.runtime.fleet.page.excerpts import shortened, tail_of
from paddock.runtime.fleet.page.timeline import Axis, concurrency
from paddock.runtime.fleet.page.traces import STEPS, steps_of
from paddock.runtime.fleet.run_directory import RunDirectory
from paddock.runtime.fleet.tasks import parse_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAILED = "the tests failed: " + "x" * 3_000


class Made:
    """A directory with a ledger, whose batch ended as a test says."""

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        self.directory.lock()
        self.directory.write_configuration({"run_id": "r", "configuration": {}})
        self.ledger = Ledger(self.directory.ledger)

    def end(self, key: str, fault: Any = None, *, message: str = "", **details: Any) -> Path:
        attempt = Attempt(
            key=key,
            number=self.ledger.begin(key),
            fault=fault,
            message=message,
            details={"stages": {"queue": 5.0, "create": 1.0, "run": 2.0}, **details},
        )
        assert self.ledger.finish(attempt)
        folder = self.directory.folder(key, attempt.number)
        folder.mkdir(parents=True)
        return folder

    def page(self, code: int | None = 1) -> tuple[str, dict[str, Any]]:
        """Return the page, and the data in it."""
        text = report_page(self.ledger, self.directory, code=code, gave_up=None)
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
        assert found is not None
        return text, json.loads(found[1])


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    found = Made(tmp_path / "run")
    yield found
    found.ledger.close()
    found.directory.unlock()


def test_a_task_has_its_attempts_its_stages_and_what_it_left(made: Made) -> None:
    made.ledger.add(parse_tasks([{"id": "a"}, {"id": "b"}, {"id": "c"}]))
    made.ledger.begin("a")
    made.ledger.lose_running()
    folder = made.end("a", "task.failed", message="it broke", cost=0.5, artifacts={"x": "ab"})
    (folder / "stdout").write_text("\x1b[31mred\x1b[0m\n")
    made.ledger.begin("b")
    _, shown = made.page(None)
    assert shown["stages"][0] == "queue"
    a, b, c = shown["tasks"]
    assert a[:2] == ["a", "task.failed"]
    assert [each[:3] for each in a[2]] == [[1, "lost", None], [2, "accepted", "task.failed"]]
    assert a[2][1][5] == [5.0, 1.0, 0.0, 0.0, 0.0, 2.0]
    assert b[1] == "running"
    assert (c[1], c[2]) == ("pending", [])
    assert (shown["total"], shown["cost"], shown["attempts"]) == (3, 0.5, 3)
    assert shown["details"]["a"] == {
        "number": 2, "task": '{"id":"a"}', "message": "it broke", "stdout": "red\n",
        "artifacts": [["x", "ab"]], "folder": "tasks/a/attempt-2",
    }  # fmt: skip


def test_ten_thousand_tasks_make_a_page_of_some_megabytes_with_all_that_failed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "MOST_BYTES", 2**20)
    made.ledger.add(parse_tasks({"id": f"t{n}", "x": "y" * 3_000} for n in range(10_000)))
    rows = [
        (f"t{n}", 1, "accepted", n, n + 2.0, "task.failed" if n >= 9_900 else None, FAILED)
        for n in range(10_000)
    ]

    def write(db: Any) -> None:
        db.execute("UPDATE tasks SET state = 'done', attempt = 1")
        columns = "key, number, state, began, ended, fault, message"
        db.executemany(f"INSERT INTO attempts ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    made.ledger.write("made up", write)
    text, shown = made.page()
    assert len(text) < 9 * 2**20
    assert len(shown["tasks"]) == 10_000
    assert {f"t{n}" for n in range(9_900, 10_000)} <= shown["details"].keys()
    assert len(json.dumps(shown["details"])) < 2**20 + 100 * 1000
    monkeypatch.setattr(overview, "MOST_ROWS", 300)
    _, shown = made.page()
    assert [each[0] for each in shown["tasks"]] == [
        *(f"t{n}" for n in range(9_900, 10_000)),
        *(f"t{n}" for n in range(200)),
    ]
    assert shown["counts"] == {"completed": 9_900, "task.failed": 100}


def test_data_cannot_leave_its_block_nor_be_taken_for_a_part_of_the_page() -> None:
    evil = "</script><!--<script>{{SCRIPT}}&lt; \u2028\ud800]]>"
    text = document(evil, evil, {"x": evil, evil: [evil]})
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data) == {"x": evil, evil: [evil]}
    assert text.count('"use strict"') == 1


def test_time_in_which_nothing_ran_is_cut_out() -> None:
    day = 86_400.0
    axis = Axis([(100, 200), (150, 260), (day, day + 40), (270, 270)])
    busy = 160 + 40
    assert [(gap.at, gap.seconds) for gap in axis.gaps] == [(170, day - 270)]
    assert axis.at(100) == 0
    assert axis.at(265) == 165, "ten seconds are not"
    assert axis.at(day) == pytest.approx(170 + 0.015 * busy)
    assert axis.length == pytest.approx(210 + 0.015 * busy)
    assert Axis([]).length == 0


def test_how_many_ran_is_an_average_of_each_part() -> None:
    assert concurrency([(0, 10), (0, 5), (5, 7.5)], 10, 4) == ([2, 2, 2, 1], 2)
    assert concurrency([(1, 2)], 4, 4) == ([0, 1, 0, 0], 1)
    assert concurrency([], 0, 2) == ([0, 0], 0)


def test_long_texts_lose_their_middle_and_files_that_are_none_are_empty(tmp_path: Path) -> None:
    assert shortened("a" * 10 + "b" * 20, 30) == "a" * 10 + "b" * 20
    short = shortened("a" * 1000 + "b" * 1000, 30)
    assert short == f"{'a' * 10}\n[1,970 characters are not shown]\n{'b' * 20}"
    (tmp_path / "long").write_text("a" * 10_000 + "\nend\n")
    assert tail_of(tmp_path / "long", 10) == "[…]\naaaaa\nend\n"
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "folder", "fifo", "missing"):
        assert not tail_of(tmp_path / name, 10)


def line(second: int, **record: Any) -> str:
    return json.dumps({"ts": f"2026-01-01T00:00:{second:02}+00:00", **record})


def test_a_trace_is_shown_by_its_steps(tmp_path: Path) -> None:
    lines = [
        line(0, type="message", role="user", content=[{"type": "text", "text": "Go."}, None]),
        line(1, type="llm_start"),
        line(3, type="llm_end", model="m", input_tokens=1500, output_tokens=2, cost_usd=0.25),
        line(3, type="message", role="assistant", content="I look."),
        line(3, type="tool_start", tool_name="bash", tool_call_id="1", tool_args={"command": "ls"}),
        line(4, type="message", role="tool", tool_call_id="1", content="nothing"),
        line(4, type="tool_end", tool_call_id="1", duration_ms=700, success=False),
        line(5, type="error", message="overloaded"),
        '{"torn": ',
        "[]",
    ]
    (tmp_path / "trace.jsonl").write_text("\n".join(lines))
    prompt, model, answer, tool, error = steps_of(tmp_path / "trace.jsonl")
    assert (prompt["kind"], prompt["text"]) == ("prompt", "Go.")
    assert (model["at"], model["seconds"], model["cost"]) == (1, 2, 0.25)
    assert model["text"] == "1,500 input and 2 output tokens"
    assert answer["text"] == "I look."
    assert (tool["result"], tool["seconds"], tool["failed"]) == ("nothing", 0.7, True)
    assert (error["title"], error["text"]) == ("error", "overloaded")


def test_a_long_trace_keeps_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(f"{line(0, type='error', message=str(n))}\n" for n in range(50_000)))
    steps = steps_of(path)
    assert len(steps) == STEPS + 1
    assert steps[0]["text"] == "0"
    assert steps[STEPS // 2]["kind"] == "gap"
    assert steps[-1]["text"] == "49999"
