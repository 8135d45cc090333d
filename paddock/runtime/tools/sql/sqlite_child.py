"""One SQLite session in a process of its own, which is killed where SQLite cannot be interrupted.

Run by `paddock.runtime.tools.sql.sqlite_process` as a script, with a request as JSON as its
argument. Orders come as JSON, one a line, on stdin, and answers go to stdout. The end of stdin
ends the process at once, whatever SQLite is doing.
"""

import base64
import contextlib
import json
import os
import queue
import resource
import sqlite3
import sys
import threading
from typing import Any, BinaryIO

BATCH_BYTES = 256 * 1024
"""Bytes of values after which no more rows go into an answer."""
BATCH_ROWS = 1000


def main() -> None:
    request = json.loads(sys.argv[1])
    for name, bound in request["bounds"].items():
        # Where the system does not have the bound, the deadline of the parent is left.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (bound, bound))
    sys.path[:] = request["path"]
    # Its own imports come by way of the packages above it, which import nothing but what is light.
    from paddock.runtime.tools.sql.sqlite_session import guard_session

    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    session = Session(guard_session)
    reader = threading.Thread(
        target=read_orders, args=(sys.stdin.buffer, orders, session), daemon=True
    )
    reader.start()
    while True:
        answer = session.obey(orders.get())
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def read_orders(
    stream: BinaryIO, orders: "queue.Queue[dict[str, Any]]", session: "Session"
) -> None:
    """Queue all orders but an interruption, which is for what SQLite does now."""
    for line in stream:
        order = json.loads(line)
        if order["op"] == "interrupt":
            session.interrupt()
        else:
            orders.put(order)
    os._exit(0)


class Session:
    """The connection, and the one cursor that rows are fetched from."""

    def __init__(self, guard_session: Any) -> None:
        self._guard_session = guard_session
        self._raw: sqlite3.Connection | None = None
        self._cursors: dict[int, sqlite3.Cursor] = {}

    def interrupt(self) -> None:
        if self._raw is not None:
            self._raw.interrupt()

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self, "do_" + order.pop("op"))(**order)
        except (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError) as error:
            known = isinstance(error, sqlite3.Error)
            kind = type(error).__name__ if known else "OperationalError"
            return {"error": kind, "text": str(error) or type(error).__name__}
        return answer

    def do_connect(self, target: str) -> dict[str, Any]:
        self._raw = sqlite3.connect(target, uri=True, check_same_thread=False)
        self._raw.text_factory = readable  # one bad value would make its whole table unreadable
        return {}

    def do_guard(self, mutations: bool, wait: float) -> dict[str, Any]:
        self._guard_session(self._raw, mutations=mutations, wait=wait)
        return {}

    def do_execute(self, cursor: int, sql: str, parameters: Any) -> dict[str, Any]:
        assert self._raw is not None, "not connected"
        found = self._cursors[cursor] = self._raw.cursor()
        found.execute(sql, parameters)
        names = None if found.description is None else [each[0] for each in found.description]
        return {"names": names, "rowcount": found.rowcount, "lastrowid": found.lastrowid}

    def do_fetch(self, cursor: int) -> dict[str, Any]:
        rows: list[list[Any]] = []
        size = 0
        while size < BATCH_BYTES and len(rows) < BATCH_ROWS:
            row = self._cursors[cursor].fetchone()
            if row is None:
                return {"rows": rows, "more": False}
            rows.append([written(value) for value in row])
            size += sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)
        return {"rows": rows, "more": True}

    def do_close_cursor(self, cursor: int) -> dict[str, Any]:
        if (found := self._cursors.pop(cursor, None)) is not None:
            found.close()
        return {}

    def do_commit(self) -> dict[str, Any]:
        assert self._raw is not None, "not connected"
        self._raw.commit()
        return {}

    def do_rollback(self) -> dict[str, Any]:
        assert self._raw is not None, "not connected"
        self._raw.rollback()
        return {}


def readable(text: bytes) -> str:
    """A text of SQLite, which lets any bytes be one."""
    return text.decode("utf-8", "replace")


def written(value: Any) -> Any:
    """A value of SQLite as JSON has it: bytes as an object."""
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
