"""The ledger of a batch: which tasks there are, which attempts were made, what was accepted.

One process writes it, see `RunDirectory`. Each transition is one transaction with a name. An
attempt's number is its fencing token: `finish` accepts a result only while the task is running
and this attempt is its current one, so a task has at most one accepted result, whatever comes
late. Everything here blocks; `Fleet` calls it in a thread of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from paddock.runtime.fleet.ledger_file import LedgerError, LedgerFile
from paddock.runtime.fleet.tasks import Task

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from paddock.runtime.fleet.faults import Fault

__all__ = ["Attempt", "Entry", "Ledger", "LedgerError"]


_FINISHED = """
SELECT t.position, t.key, t.body, a.number, a.state, a.began, a.ended, a.fault, a.message,
       a.result, a.details
FROM tasks t JOIN attempts a ON a.key = t.key AND a.number = t.attempt
WHERE t.state = 'done'
"""
_HISTORY = """
SELECT t.position, t.key, t.body, a.number, a.state, a.began, a.ended, a.fault, a.message,
       a.result, a.details
FROM tasks t JOIN attempts a ON a.key = t.key ORDER BY t.position, a.number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How attempt `number` of the task `key` ended. Without a `fault` it has a `result`, as JSON.

    `details` are times of its stages and what it cost. `state` is what the ledger says of it.
    """

    key: str
    number: int
    fault: Fault | None = None
    message: str = ""
    result: str = "null"
    details: Mapping[str, Any] = field(default_factory=dict)
    state: str = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A task, its place in the list, and one of its attempts; `began` and `ended` are seconds
    since 1970."""

    position: int
    task: Task
    attempt: Attempt
    began: float
    ended: float


class Ledger(LedgerFile):
    """The database of one batch, opened by the one process that writes it."""

    # ---------------------------------------------------------------- transitions

    def add(self, tasks: Iterable[Task]) -> int:
        """Add the tasks, all or none; return how many."""
        rows = ((task.key, task.body) for task in tasks)
        query = "INSERT INTO tasks (key, body) VALUES (?, ?)"
        return self.write("tasks added", lambda db: db.executemany(query, rows).rowcount)

    def order(self, ranked: Iterable[tuple[int, str, str]] | None) -> None:
        """Let tasks begin by the ranks and in the lanes that are given with their keys.

        None is the order in which they were added, in one lane.
        """
        plain = "UPDATE tasks SET rank = position, lane = '' WHERE rank != position OR lane != ''"

        def work(db: sqlite3.Connection) -> None:
            if ranked is None:
                db.execute(plain)
            else:
                db.executemany("UPDATE tasks SET rank = ?, lane = ? WHERE key = ?", ranked)

        self.write("tasks ordered", work, durable=False)

    def begin(self, key: str) -> int:
        """Begin an attempt of a pending task and return its number.

        It is written before a sandbox is made, so that what carries the number as a label is
        found whatever happens next.
        """

        def work(db: sqlite3.Connection) -> int:
            query = """
            UPDATE tasks SET state = 'running', attempt = attempt + 1
            WHERE key = ? AND state = 'pending' RETURNING attempt
            """
            found = db.execute(query, (key,)).fetchone()
            if found is None:
                raise LedgerError(f"task {key!r} is not pending in {self.path}")
            number = int(found[0])
            db.execute(
                "INSERT INTO attempts (key, number, state, began) VALUES (?, ?, 'begun', ?)",
                (key, number, time.time()),
            )
            return number

        return self.write("attempt begun", work, durable=False)

    def place(self, key: str, number: int, sandbox: str) -> None:
        """Note the sandbox of an attempt."""
        query = "UPDATE attempts SET state = 'running', sandbox = ? WHERE key = ? AND number = ?"
        self.write(
            "attempt placed", lambda db: db.execute(query, (sandbox, key, number)), durable=False
        )

    def finish(self, attempt: Attempt) -> bool:
        """Accept what came of an attempt as what came of its task, for good.

        Return False, and keep it as superseded, unless the task is running and this is its
        current attempt.
        """

        def work(db: sqlite3.Connection) -> bool:
            query = """
            UPDATE tasks SET state = 'done' WHERE key = ? AND attempt = ? AND state = 'running'
            """
            accepted = db.execute(query, (attempt.key, attempt.number)).rowcount == 1
            self._end(db, attempt, "accepted" if accepted else "superseded", counted=accepted)
            return accepted

        return self.write("attempt accepted", work)

    def give_back(self, attempt: Attempt, *, state: str = "failed", counted: bool = False) -> None:
        """End an attempt that decides nothing: its task is pending again.

        One that is `counted` is one of the tries that the task has for its fault.
        """

        def work(db: sqlite3.Connection) -> None:
            query = """
            UPDATE tasks SET state = 'pending' WHERE key = ? AND attempt = ? AND state = 'running'
            """
            db.execute(query, (attempt.key, attempt.number))
            self._end(db, attempt, state, counted=counted)

        self.write("attempt given back", work, durable=False)

    def uncount(self, attempts: Iterable[tuple[str, int]]) -> None:
        """Let attempts use no try: what failed was not theirs."""
        query = "UPDATE attempts SET counted = 0 WHERE key = ? AND number = ?"
        rows = list(attempts)
        self.write("attempts uncounted", lambda db: db.executemany(query, rows), durable=False)

    def lose_running(self) -> int:
        """Take what runs for lost, as its owner is gone; return how many attempts that were."""

        def work(db: sqlite3.Connection) -> int:
            lost = """
            UPDATE attempts SET state = 'lost', ended = max(began, ?)
            WHERE state IN ('begun', 'running')
            """
            db.execute(lost, (time.time(),))
            query = "UPDATE tasks SET state = 'pending' WHERE state = 'running'"
            return db.execute(query).rowcount

        return self.write("attempts lost", work)

    def reopen(self, keys: Iterable[str]) -> int:
        """Let finished tasks be pending again, with all their tries; return how many.

        What was accepted of them is superseded.
        """
        rows = [(key,) for key in keys]

        def work(db: sqlite3.Connection) -> int:
            done = "SELECT 1 FROM tasks WHERE key = ? AND state = 'done'"
            known = [row for row in rows if db.execute(done, row).fetchone()]
            db.executemany("UPDATE tasks SET state = 'pending' WHERE key = ?", known)
            db.executemany(
                "UPDATE attempts SET counted = 0, "
                "state = iif(state IN ('accepted', 'failed'), 'superseded', state) WHERE key = ?",
                known,
            )
            return len(known)

        return self.write("tasks reopened", work)

    def change(self, tasks: Iterable[Task]) -> tuple[int, int]:
        """Make these the tasks of the batch; return how many are new or changed, and removed.

        Those that have not changed keep what came of them.
        """
        given = list(tasks)

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            known = dict(db.execute("SELECT key, body FROM tasks").fetchall())
            changed = [task for task in given if known.get(task.key) != task.body]
            gone = [(key,) for key in known.keys() - {task.key for task in given}]
            db.executemany("DELETE FROM tasks WHERE key = ?", gone)
            db.executemany(
                "INSERT INTO tasks (key, body, attempt) VALUES (?, ?, "
                "(SELECT coalesce(max(number), 0) FROM attempts WHERE key = ?)) "
                "ON CONFLICT (key) DO UPDATE SET body = excluded.body, state = 'pending'",
                [(task.key, task.body, task.key) for task in changed],
            )
            db.executemany(
                "UPDATE attempts SET counted = 0, state = 'superseded' WHERE key = ?",
                [*gone, *((task.key,) for task in changed)],
            )
            return len(changed), len(gone)

        return self.write("tasks changed", work)

    def forget_kept(self) -> None:
        """Note that no sandbox is kept."""
        query = "UPDATE attempts SET details = json_remove(details, '$.kept') WHERE details != ''"
        self.write("kept forgotten", lambda db: db.execute(query))

    # --------------------------------------------------------------------- reading

    def pending(self, lane: str, after: int, count: int) -> list[tuple[int, Task]]:
        """Return up to `count` pending tasks of a lane that stand after a rank, with theirs."""
        query = """
        SELECT rank, key, body FROM tasks WHERE state = 'pending' AND lane = ? AND rank > ?
        ORDER BY rank LIMIT ?
        """
        found = self._read(query, (lane, after, count))
        return [(rank, Task(key=key, body=body)) for rank, key, body in found]

    def seconds(self) -> dict[str, float]:
        """Return how long the longest attempt of each task took that ended by itself."""
        query = """
        SELECT key, max(ended - began) FROM attempts
        WHERE state IN ('accepted', 'superseded', 'failed') AND ended IS NOT NULL GROUP BY key
        """
        return dict(self._read(query))

    def tries(self, key: str, faults: Collection[Fault]) -> int:
        """Count the tries that a task has used for one of `faults`."""
        query = "SELECT fault FROM attempts WHERE key = ? AND counted AND state = 'failed'"
        return sum(fault in faults for (fault,) in self._read(query, (key,)))

    def strikes(self) -> dict[str, int]:
        """Count for each task the attempts under which the engine went down."""
        query = """
        SELECT key, count(*) FROM attempts
        WHERE state = 'failed' AND json_extract(details, '$.down') GROUP BY key
        """
        return dict(self._read(query))

    def kept(self) -> dict[str, str]:
        """Return the sandboxes that were kept of finished tasks, by key."""
        query = """
        SELECT key, json_extract(details, '$.kept') FROM attempts
        WHERE state = 'accepted' AND json_extract(details, '$.kept') IS NOT NULL
        """
        return dict(self._read(query))

    def counts(self) -> dict[str, int]:
        """Count the tasks: pending, running, completed, and the others by their fault."""
        query = """
        SELECT iif(t.state = 'done', coalesce(a.fault, 'completed'), t.state), count(*)
        FROM tasks t LEFT JOIN attempts a ON a.key = t.key AND a.number = t.attempt GROUP BY 1
        """
        return dict(self._read(query))

    def cost(self) -> float:
        """Return what the models of all attempts have cost, in US dollars."""
        query = "SELECT coalesce(sum(json_extract(details, '$.cost')), 0.0) FROM attempts"
        return float(self._read(query)[0][0])

    def states(self) -> list[tuple[str, str, int]]:
        """Return key, state and number of attempts of each task; done ones have their fault."""
        query = """
        SELECT t.key, iif(t.state = 'done', coalesce(a.fault, 'completed'), t.state), t.attempt
        FROM tasks t LEFT JOIN attempts a ON a.key = t.key AND a.number = t.attempt
        ORDER BY t.position
        """
        return self._read(query)

    def finished(self, after: int = 0) -> Iterator[Entry]:
        """Return the finished tasks with what was accepted of them, in their order, those after a
        position."""
        return self._entries(f"{_FINISHED} AND t.position > ? ORDER BY t.position", (after,))

    def accepted(self, key: str) -> Entry:
        """Return a finished task."""
        return next(self._entries(f"{_FINISHED} AND t.key = ?", (key,)))

    def history(self) -> Iterator[Entry]:
        """Return all attempts of all tasks that are there, in the tasks' order."""
        return self._entries(_HISTORY)

    # -------------------------------------------------------------------- internal

    def _entries(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[Entry]:
        with self._reported():
            yield from map(_entry, self._connection.execute(query, values))

    def _end(self, db: sqlite3.Connection, attempt: Attempt, state: str, *, counted: bool) -> None:
        query = """
        UPDATE attempts SET state = ?, ended = max(began, ?), fault = ?, message = ?, result = ?,
               details = ?, counted = ?
        WHERE key = ? AND number = ? AND state IN ('begun', 'running', 'lost')
        """
        details = json.dumps(dict(attempt.details))
        ended = (state, time.time(), attempt.fault, attempt.message, attempt.result, details)
        db.execute(query, (*ended, counted, attempt.key, attempt.number))


def _entry(row: tuple[Any, ...]) -> Entry:
    position, key, body, number, state, began, ended, fault, message, result, details = row
    attempt = Attempt(
        key=key,
        number=number,
        fault=cast("Fault | None", fault),
        message=message or "",
        result=result or "null",
        details=json.loads(details or "{}"),
        state=state,
    )
    task = Task(key=key, body=body)
    return Entry(position=position, task=task, attempt=attempt, began=began, ended=ended or began)
