"""What happens when telemetry cannot be written."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    TelemetryStorage,
)
from paddock.runtime.telemetry.writer import TelemetryWriter
from tests.unit.runtime.telemetry.keeping import (
    DEADLINE,
    HELLO,
    TURNS,
    kept,
    kept_in_time,
    look,
    observe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.runtime.conftest import OpenSession


@pytest.fixture
def room() -> Iterator[Callable[[int | None], None]]:
    """``room(size)`` lets no file of this process grow beyond `size` bytes; None lifts it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)


def update(number: int) -> tuple[str, dict[str, Any]]:
    sql = (
        "INSERT INTO sessions (session_id, team_id, project_id, started_at, metadata)"
        " VALUES (:name, 't', 'p', '2100', :data)"
    )
    return sql, {"name": f"s{number:05}", "data": '{"a": "' + "x" * 4000 + '"}'}


def names(path: Path) -> list[str]:
    with TelemetryStorage(path, read_only=True) as storage:
        return sorted(row["session_id"] for row in storage.list_sessions(None))


class Heard(logging.Handler):
    """Says when something was logged, from whichever thread."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


@pytest.fixture
def heard() -> Iterator[threading.Event]:
    """Set when telemetry warns."""
    handler, log = Heard(), logging.getLogger("paddock.runtime.telemetry")
    log.addHandler(handler)
    yield handler.event
    log.removeHandler(handler)


async def test_a_full_disk_is_one_warning_and_what_waits_is_written_when_there_is_room(
    path: Path,
    room: Callable[[int | None], None],
    caplog: pytest.LogCaptureFixture,
    heard: threading.Event,
) -> None:
    writer = TelemetryWriter(path)
    await writer.start()
    room(64 * 1024)
    for number in range(40):
        writer.put(update(number))
    assert await asyncio.to_thread(heard.wait, DEADLINE)
    writer.put(update(40))
    room(None)
    writer.put(update(41))
    await writer.close()
    assert names(path) == [f"s{number:05}" for number in range(42)]
    assert writer.lost == 0
    assert [(each.levelno, each.name) for each in caplog.records] == [
        (logging.WARNING, "paddock.runtime.telemetry.writer")
    ]


async def test_a_disk_that_stays_full_does_not_keep_anybody(
    path: Path,
    room: Callable[[int | None], None],
    caplog: pytest.LogCaptureFixture,
    open_session: OpenSession,
) -> None:
    session = open_session(TURNS, look)
    telemetry = observe(session, path)
    await telemetry.start()
    kept_in_time(path, session)
    room(1)
    result = await session.run("Look.")
    await telemetry.close()
    room(None)
    assert result.status == "completed"
    assert len(caplog.records) == 1
    assert kept(path, session)["status"] == "active"


async def test_a_full_queue_loses_what_is_new_but_not_the_end(path: Path) -> None:
    writer = TelemetryWriter(path, queue_limit=3)
    for number in range(5):
        writer.put(update(number))
    writer.put(update(9), essential=True)
    await writer.start()
    await writer.close()
    assert names(path) == ["s00000", "s00001", "s00002", "s00009"]
    assert writer.lost == 2


async def test_one_row_that_cannot_be_written_does_not_take_others_with_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TelemetryWriter(path)
    for number in (1, 1, 2):
        writer.put(update(number))
    await writer.start()
    await writer.close()
    assert names(path) == ["s00001", "s00002"]
    assert (writer.lost, len(caplog.records)) == (1, 1)


async def test_a_lock_of_another_process_does_not_hold_the_loop(path: Path) -> None:
    writer = TelemetryWriter(path)
    await writer.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(100):
            writer.put(update(number))  # this thread holds the lock
        other.execute("ROLLBACK")
    await writer.close()
    assert len(names(path)) == 100


async def test_a_session_that_is_forgotten_leaves_no_thread(
    open_session: OpenSession, path: Path
) -> None:
    session = open_session(HELLO)
    telemetry = observe(session, path)
    await telemetry.start()
    (thread,) = [each for each in threading.enumerate() if each.name == "paddock telemetry"]
    del session, telemetry
    gc.collect()
    await asyncio.to_thread(thread.join, DEADLINE)
    assert not thread.is_alive()
