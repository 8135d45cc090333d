"""A connection to SQLite, as SQLAlchemy uses one, whose work is done by a process of its own.

SQLite can be interrupted between the steps of a statement, and not within a function, which may
take hours. A process can be killed at any time. It also bounds the memory that a statement takes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.worker import child_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Values = Sequence[Any] | Mapping[str, Any]

__all__ = ["SqliteConnection"]

CHILD: Final = Path(__file__).with_name("sqlite_child.py")
BOUNDS: Final = {
    "RLIMIT_AS": 1024 * 1024 * 1024,  # bytes; a session takes 50 MiB, and sorts in files
    "RLIMIT_CORE": 0,
}
CPU_GRACE: Final = 5
"""Seconds of CPU beyond the timeout of a call, which has ended it before."""
ENDING: Final = 5.0
"""Seconds for a process that was killed to be gone: at once, unless the kernel is in the way."""
ANSWER_MAX: Final = 512 * 1024 * 1024
"""Characters of one answer: a row has at most 2,000 values of 128 KiB, which JSON may double."""
ERRORS: Final[dict[str, type[sqlite3.Error]]] = {
    error.__name__: error
    for error in (
        sqlite3.DatabaseError, sqlite3.DataError, sqlite3.Error, sqlite3.IntegrityError,
        sqlite3.InterfaceError, sqlite3.InternalError, sqlite3.NotSupportedError,
        sqlite3.OperationalError, sqlite3.ProgrammingError,
    )
}  # fmt: skip


class Ended(sqlite3.OperationalError):
    """The process is gone, and with it all that was not committed."""

    def __init__(self) -> None:
        super().__init__("stopped: it took too much time or memory")


class SqliteConnection:
    """What SQLAlchemy needs of a `sqlite3.Connection`, and ways to end what it does.

    `interrupt` and `kill` may be called from any thread; the rest from one at a time.
    """

    isolation_level = ""

    def __init__(self, target: str, *, timeout: float) -> None:
        bounds = BOUNDS | {"RLIMIT_CPU": int(timeout) + CPU_GRACE}
        request = {"bounds": bounds, "path": [place for place in sys.path if place]}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(CHILD), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,  # a terminal's Ctrl-C is for us to act on
        )
        self._writing = threading.Lock()
        self._interrupted = False
        self._numbers = count(1)
        try:
            self.ask("connect", target=target)
        except BaseException:
            self.close()
            raise

    def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Give one order and return the answer. Raises the `sqlite3.Error` of the process."""
        self._send({"op": operation, **arguments})
        assert self._process.stdout is not None, "made without a pipe"
        try:
            line = self._process.stdout.readline(ANSWER_MAX)
        except ValueError:  # closed by `close`
            line = b""
        if not line.endswith(b"\n"):
            raise Ended
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ERRORS.get(answer["error"], sqlite3.Error)(answer["text"])
        return answer

    def _send(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None, "made without a pipe"
        try:
            with self._writing:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise Ended from None

    def guard(self, *, mutations: bool, wait: float) -> None:
        """See `guard_session`."""
        self.ask("guard", mutations=mutations, wait=wait)

    def end(self) -> None:
        """End what runs: ask SQLite, which undoes it, and the next time kill the process."""
        if self._interrupted:
            self.kill()
            return
        self._interrupted = True
        with contextlib.suppress(Ended):
            self._send({"op": "interrupt"})

    def kill(self) -> None:
        self._process.kill()

    # what SQLAlchemy calls

    def cursor(self) -> SqliteCursor:
        return SqliteCursor(self, next(self._numbers))

    def commit(self) -> None:
        self.ask("commit")

    def rollback(self) -> None:
        with contextlib.suppress(Ended):
            self.ask("rollback")

    def create_function(self, *_: object, **__: object) -> None:
        """Ignore the `regexp` of SQLAlchemy: one bad pattern holds it up for hours."""

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        try:
            self._process.wait(ENDING)
        finally:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # of an order that was not sent
                        pipe.close()


class SqliteCursor:
    """What SQLAlchemy needs of a `sqlite3.Cursor`. Rows come in batches."""

    arraysize = 1

    def __init__(self, connection: SqliteConnection, number: int) -> None:
        self._connection = connection
        self._number = number
        self._rows: list[tuple[Any, ...]] = []
        """Those that have come, the next one last."""
        self._more = False
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, sql: str, parameters: Values = ()) -> SqliteCursor:
        told = self._connection.ask("execute", cursor=self._number, sql=sql, parameters=parameters)
        names = told["names"]
        self._rows, self._more = [], names is not None
        self.description = None if names is None else tuple((name, *[None] * 6) for name in names)
        self.rowcount, self.lastrowid = told["rowcount"], told["lastrowid"]
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        while not self._rows and self._more:
            told = self._connection.ask("fetch", cursor=self._number)
            self._rows = [tuple(_read(value) for value in row) for row in reversed(told["rows"])]
            self._more = told["more"]
        return self._rows.pop() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        while len(rows) < (size or self.arraysize) and (row := self.fetchone()) is not None:
            rows.append(row)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(iter(self.fetchone, None))

    def close(self) -> None:
        self._rows, self._more = [], False
        with contextlib.suppress(Ended):
            self._connection.ask("close_cursor", cursor=self._number)


def _read(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value
