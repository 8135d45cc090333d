"""Writing a telemetry database from a thread of its own, many statements a transaction.

The event loop only puts statements into a bounded queue. What cannot be written now (a
full disk, a lock that somebody holds) stays in the queue and is tried again with what
comes next; what does not fit in is lost, and told once. Knows no table.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from paddock._logs import get_logger
from paddock.runtime.telemetry.storage import TelemetryStorage

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.telemetry.storage import Statement

__all__ = ["TelemetryWriter"]

QUEUE_LIMIT = 10_000
"""Statements that wait at most: some seconds of a hundred busy sessions, some megabytes."""

BATCH_LIMIT = 500
"""Statements of one transaction, so that other processes' writes come in between."""

CLOSE_TIMEOUT = 10.0
"""Seconds for the last batches: more than one wait for a lock."""

_log = get_logger(__name__)


class TelemetryWriter:
    """Writes what it is given to the database at `path`, in order.

    `lost` counts statements that were not and will not be written.
    """

    def __init__(self, path: Path, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self.lost = 0
        self._path = path
        self._limit = queue_limit
        self._queue: deque[Statement] = deque()
        self._news = threading.Condition()
        self._fresh = False
        self._ending = False
        self._last_try = False
        self._warned = False
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        """Open the database and begin. Raises `OSError` or `sqlite3.Error`."""
        storage = await asyncio.to_thread(TelemetryStorage, self._path)
        self._thread = threading.Thread(
            target=self._work, args=(storage,), name="paddock telemetry", daemon=True
        )
        self._thread.start()

    def put(self, statement: Statement, *, essential: bool = False) -> None:
        """Have `statement` written. Never blocks; a full queue takes only `essential` ones."""
        with self._news:
            if len(self._queue) >= self._limit and not essential:
                self.lost += 1
                return
            self._queue.append(statement)
            self._fresh = True
            self._news.notify()

    def end(self) -> None:
        """Let the thread end once it has tried to write all."""
        with self._news:
            self._ending = True
            self._news.notify()

    async def close(self) -> None:
        """Write the rest, for `CLOSE_TIMEOUT` seconds at most. Idempotent."""
        self.end()
        if self._thread is None:
            return
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self._warn("it takes too long")

    def _work(self, storage: TelemetryStorage) -> None:
        with storage:
            while batch := self._take():
                self._write(storage, batch)

    def _take(self) -> list[Statement]:
        """The next batch, when there is news; empty at the end. It stays in the queue."""
        with self._news:
            self._news.wait_for(lambda: self._fresh or self._ending)
            self._fresh, self._last_try = False, self._ending
            return list(islice(self._queue, BATCH_LIMIT))

    def _write(self, storage: TelemetryStorage, batch: list[Statement]) -> None:
        try:
            storage.write(batch)
        except sqlite3.OperationalError as error:
            self._warn(str(error))
            if self._last_try:
                self._give_up()
            return
        except (sqlite3.Error, ValueError, OverflowError):  # it would fail again
            for statement in batch:
                self._write_alone(storage, statement)
        with self._news:
            for _ in batch:
                self._queue.popleft()
            self._fresh = self._fresh or bool(self._queue)

    def _write_alone(self, storage: TelemetryStorage, statement: Statement) -> None:
        """One that cannot be written does not take the others with it."""
        try:
            storage.write([statement])
        except (sqlite3.Error, ValueError, OverflowError) as error:
            self._warn(str(error))
            self.lost += 1

    def _give_up(self) -> None:
        with self._news:
            self.lost += len(self._queue)
            self._queue.clear()

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("telemetry cannot be written to %s: %s", self._path, reason)
