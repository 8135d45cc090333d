"""What the page shows of all tasks: counts, where the time went, and a row for each task."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.runtime.fleet.page.excerpts import shortened
from paddock.runtime.fleet.page.timeline import Axis, concurrency

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from paddock.runtime.fleet.ledger import Entry

__all__ = ["STAGES", "Overview", "Row", "look_over"]

STAGES = (*("queue", "create", "setup", "model", "tools", "run", "collect", "verify", "remove"),)
"""What time is spent on, in the order in which an attempt does it."""

MOST_ROWS = 20_000
"""Tasks on the page, those that failed first. A browser reads so many in about a second."""

MOST_ATTEMPTS = 5
"""Attempts of one task, its last ones."""

MESSAGE = 300
"""Characters of an attempt's message in its row."""

MESSAGES = 3 * 2**20
"""Characters of the messages in all rows; those after that are in the details only, if at all."""

BUCKETS = 240
"""Parts of the axis for which it is shown how many sandboxes there were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A task on the page. `entries` are its attempts, `left_out` were before them."""

    position: int
    key: str
    status: str
    entries: Sequence[Entry] = ()
    left_out: int = 0

    @property
    def failed(self) -> bool:
        return self.status not in ("completed", "pending", "running")


@dataclass(slots=True, kw_only=True)
class Overview:
    """Everything but the details of tasks, as JSON in `shown`; `rows` are the tasks in it."""

    shown: dict[str, Any]
    rows: list[Row]


@dataclass(slots=True)
class _Totals:
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cost: float = 0.0
    attempts: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)

    def add(self, entry: Entry, now: float) -> None:
        details = entry.attempt.details
        self.attempts += 1
        self.cost += float(details.get("cost") or 0.0)
        for name, seconds in details.get("stages", {}).items():
            if name in self.seconds:
                self.seconds[name] += seconds
        self.spans.append(_span(entry, now))


def look_over(
    states: Iterable[tuple[str, str, int]], history: Iterable[Entry], now: float
) -> Overview:
    """Return what is shown of all tasks.

    `states` and `history` are the ledger's, both in the tasks' order; `now` is when what still
    runs is looked at.
    """
    totals = _Totals()
    chosen = _chosen(_rows(states, _noting(history, totals, now)))
    axis = Axis(totals.spans)
    spans = [(axis.at(begin), axis.at(end)) for begin, end in totals.spans]
    running, most = concurrency(spans, axis.length, BUCKETS)
    shown = {
        "stages": STAGES,
        "seconds": {name: round(seconds, 3) for name, seconds in totals.seconds.items()},
        "cost": totals.cost,
        "attempts": totals.attempts,
        "began": axis.began,
        "length": round(axis.length, 3),
        "gaps": [[round(gap.at, 3), round(gap.seconds, 3)] for gap in axis.gaps],
        "running": [round(each, 2) for each in running],
        "most": most,
        "tasks": list(_shown_rows(chosen, axis, now)),
    }
    return Overview(shown=shown, rows=chosen)


def _noting(history: Iterable[Entry], totals: _Totals, now: float) -> Iterator[Entry]:
    for entry in history:
        totals.add(entry, now)
        yield entry


def _rows(states: Iterable[tuple[str, str, int]], history: Iterator[Entry]) -> Iterator[Row]:
    grouped = itertools.groupby(history, key=lambda entry: entry.task.key)
    key, group = next(grouped, (None, iter(())))
    for position, (name, state, _) in enumerate(states):
        entries: list[Entry] = []
        if name == key:
            entries = list(group)
            key, group = next(grouped, (None, iter(())))
        kept = entries[-MOST_ATTEMPTS:]
        yield Row(
            position=position,
            key=name,
            status=state,
            entries=kept,
            left_out=len(entries) - len(kept),
        )


def _chosen(rows: Iterable[Row]) -> list[Row]:
    """Return the rows on the page, those that failed first."""
    failed: list[Row] = []
    others: list[Row] = []
    for row in rows:
        kind = failed if row.failed else others
        if len(kind) < MOST_ROWS:
            kind.append(row)
    return failed + others[: MOST_ROWS - len(failed)]


def _span(entry: Entry, now: float) -> tuple[float, float]:
    """Return when an attempt began and ended. It is not known when one was lost with its owner."""
    match entry.attempt.state:
        case "lost":
            return entry.began, entry.began
        case "begun" | "running":
            return entry.began, max(entry.began, now)
        case _:
            return entry.began, max(entry.began, entry.ended)


def _shown_rows(rows: Iterable[Row], axis: Axis, now: float) -> Iterator[list[Any]]:
    room = MESSAGES
    for row in rows:
        attempts = []
        for entry in row.entries:
            message = shortened(entry.attempt.message, MESSAGE) if room > 0 else ""
            room -= len(message)
            attempts.append([*_attempt(entry, axis, now), message])
        yield [row.key, row.status, attempts, row.left_out, row.position]


def _attempt(entry: Entry, axis: Axis, now: float) -> list[Any]:
    attempt, (begin, end) = entry.attempt, _span(entry, now)
    stages = attempt.details.get("stages", {})
    spent = [round(float(stages.get(name, 0.0)), 3) for name in STAGES]
    while spent and not spent[-1]:
        spent.pop()
    return [
        attempt.number,
        attempt.state,
        attempt.fault,
        round(axis.at(begin), 3),
        round(axis.at(end), 3),
        spent,
        round(float(attempt.details.get("cost") or 0.0), 6),
    ]
