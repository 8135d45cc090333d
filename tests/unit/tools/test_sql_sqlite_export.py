"""Exports of the `sqlite` tool into a sandbox."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from paddock.backends.local import LocalBackend
from paddock.runtime.tools.sql.line import Line
from paddock.runtime.tools.table import CsvText
from tests.unit.tools.sqlite_calls import call, registry_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.sandbox import Sandbox


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    work = str(tmp_path / "work")
    async with LocalBackend(isolation="none", working_dir=work).sandbox() as sandbox:
        yield sandbox


async def test_a_connection_that_breaks_is_no_trouble_with_the_file(
    file: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(Line, "execute", broken)
    arguments = {"operation": "export_query", "sql": "SELECT 1", "export_path": "x.csv"}
    output = await call(registry_of(file), sandbox, **arguments)
    assert output.content == "SQLite says: [Errno 104] Connection reset by peer"


async def test_an_export_is_encoded_in_the_thread(
    file: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = CsvText.encode
    threads: list[str] = []

    def noted(text: CsvText) -> bytes:
        threads.append(threading.current_thread().name)
        return encoded(text)

    monkeypatch.setattr(CsvText, "encode", noted)
    arguments = {"operation": "export_query", "sql": "SELECT 1", "export_path": "x.csv"}
    assert (await call(registry_of(file), sandbox, **arguments)).success
    assert threads == ["paddock-tool"]


@pytest.mark.rows("S-49")
@pytest.mark.parametrize("parameter", ["export_path", "output_path"])
async def test_a_query_is_exported_to_the_sandbox(
    file: Path, sandbox: Sandbox, parameter: str
) -> None:
    sql = "SELECT id, name || ',\"' AS n, photo FROM people ORDER BY id"
    output = await call(
        registry_of(file), sandbox, operation="export_query", sql=sql, **{parameter: "out/p.csv"}
    )
    data = await sandbox.fs.read_bytes("out/p.csv")
    assert output.content == f"Exported 150 rows to out/p.csv ({len(data)} bytes)"
    assert data.startswith(b'id,n,photo\r\n1,"n0,""",\r\n')
    assert data.count(b"\r\n") == 151


@pytest.mark.rows("S-49")
async def test_an_export_replaces_nothing_and_spares_protected_files(
    file: Path, sandbox: Sandbox
) -> None:
    await sandbox.fs.write_text("there.csv", "mine")

    async def export(path: str, sql: str = "SELECT 1 AS a") -> str:
        output = await call(
            registry_of(file), sandbox, operation="export_query", sql=sql, export_path=path
        )
        assert not output.success
        return output.content

    assert await export("there.csv") == "File already exists: there.csv"
    assert await sandbox.fs.read_text("there.csv") == "mine"
    assert (await export(".ssh/x.csv")).startswith("Cannot write to a protected path: .ssh/x.csv")
    assert (await export("/etc/cron.csv")).startswith("Cannot write to a protected path")
    assert (await export("new.csv", "DELETE FROM people")).startswith("Query blocked: ")
    assert not await sandbox.fs.exists("new.csv")
