"""What is shown of a batch that runs: not too much, and why it waits."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from paddock import FleetProgress, TaskResult
from paddock.cli.batch_display import FAILURES, BatchDisplay, Pace


@pytest.mark.parametrize(
    ("seen", "left", "told"),
    [
        ([(0, 0)], 10, []),
        ([(0, 0), (10, 0)], 10, []),
        ([(0, 0), (10, 25)], 100, ["2.5/s", "0:40 left"]),
        ([(0, 10), (30, 11)], 180, ["2.0/min", "1:30:00 left"]),
        ([(0, 0), (10, 1000), (100, 1010), (130, 1020)], 1, ["10.0/min", "0:06 left"]),
        ([(0, 0), (10, 25)], 0, ["2.5/s"]),
    ],
)
def test_the_rate_is_that_of_the_last_minute(
    seen: list[tuple[float, int]], left: int, told: list[str]
) -> None:
    pace = Pace()
    for now, done in seen:
        pace.note(now, done)
    assert pace.told(left) == told


def progress(done: int, *, paused: str | None = None, cost: float = 0.0) -> FleetProgress:
    counts = {"completed": done, "running": 2, "pending": 98 - done}
    return FleetProgress(counts=counts, paused=paused, throttled="8 start", cost=cost)


def failed(number: int) -> TaskResult[object]:
    return TaskResult(status="error", error=ValueError(f"no {number}\x1b[31m\n"), key=f"t{number}")


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    now, written = 0.0, io.StringIO()
    with BatchDisplay(Console(file=written, width=300), lambda: now) as display:
        for tick in range(2 * 3600):  # an hour
            now = tick / 2
            display.noted(["a note"])
            display.counted(progress(min(98, tick // 100), cost=1.5))
    lines = written.getvalue().splitlines()
    assert lines[:2] == [
        "paddock: a note",
        "0 of 100 done, 2 running, $1.50, throttled: 8 start",
    ]
    assert 60 < len(lines) < 160
    assert lines[-1].startswith("71 of 100 done, 2 running, 1.0/min, 29:00 left")


def test_a_pause_is_said_when_it_begins_and_when_it_ends() -> None:
    now, written = 0.0, io.StringIO()
    with BatchDisplay(Console(file=written, width=300), lambda: now) as display:
        for tick in range(6):
            now = tick / 2
            display.counted(progress(0, paused="no engine" if tick in (2, 3) else None))
    assert [line.rpartition(", ")[2] for line in written.getvalue().splitlines()] == [
        "paused: no engine",
        "throttled: 8 start",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_thousands_of_failures_are_some_lines_and_a_count(terminal: bool) -> None:
    now, written = 0.0, io.StringIO()
    console = Console(file=written, width=300, force_terminal=terminal, color_system=None)
    with BatchDisplay(console, lambda: now) as display:
        for number in range(5_000):
            now = number / 250
            display.ended(failed(number))
            display.counted(progress(0))
    lines = [line for line in written.getvalue().splitlines() if "t1: no 1" in line]
    assert lines
    assert "\x1b[31m" not in written.getvalue()
    said = written.getvalue()
    assert sum(f"t{n}: no {n}" in said for n in range(5_000)) == 2 * FAILURES
    assert said.count("more failed; see: paddock batch status") == 2
