"""`read_excel` on real workbooks in a real sandbox."""

from __future__ import annotations

import datetime as dt
import functools
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from openpyxl.chart import BarChart, Reference

from paddock.backends.local import LocalBackend
from paddock.redaction import Redactor
from paddock.runtime.core.tool import ToolInvocation, ToolOutput
from paddock.runtime.tools import excel
from paddock.runtime.tools.factory import build_registry
from tests.lending import lending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.sandbox import Sandbox


SECRET = "correct-horse-battery-staple"


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with LocalBackend(isolation="none", working_dir=str(tmp_path)).sandbox() as sandbox:
        await sandbox.fs.write_bytes("book.xlsx", _workbook())
        yield sandbox


@functools.cache
def _workbook() -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    people = book.create_sheet("People")
    people.append(["name", "born", None, "share"])
    people.append(["Ada\nL.", dt.date(1815, 12, 10), None, 0.5])
    people.append([None, None, None, "=D2*2"])
    numbers = book.create_sheet("Numbers")
    for number in range(1, 1201):
        numbers.append([number] * 60)
    book.create_sheet("Empty")
    chart = BarChart()
    chart.add_data(Reference(numbers, min_col=1, min_row=1, max_row=3))
    book.create_chartsheet("Chart").add_chart(chart)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


async def _read(sandbox: Sandbox, path: str = "book.xlsx", **arguments: Any) -> ToolOutput:
    return await build_registry("readonly").dispatch(
        ToolInvocation("1", "read_excel", {"path": path, **arguments}, lending(sandbox))
    )


@pytest.mark.rows("S-43")
async def test_the_first_sheet_is_a_table_and_the_others_are_named(sandbox: Sandbox) -> None:
    output = await _read(sandbox)
    assert output.content == (
        "Sheets: People, Numbers, Empty, Chart\n"
        "Sheet: People\n"
        "+---+---------+---------------------+---+-------+\n"
        "|   | A       | B                   | C | D     |\n"
        "+---+---------+---------------------+---+-------+\n"
        "| 1 | name    | born                |   | share |\n"
        "| 2 | Ada\\nL. | 1815-12-10 00:00:00 |   | 0.5   |\n"
        "| 3 |         |                     |   |       |\n"
        "+---+---------+---------------------+---+-------+\n"
        "(rows 1-3)"
    )


async def test_a_formula_is_shown_as_the_value_that_was_saved(sandbox: Sandbox) -> None:
    with zipfile.ZipFile(io.BytesIO(_workbook())) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    assert b"<f>D2*2</f><v />" in parts[sheet] or b"<f>D2*2</f><v></v>" in parts[sheet]
    parts[sheet] = parts[sheet].replace(b"<v />", b"<v>1</v>").replace(b"<v></v>", b"<v>1</v>")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as target:
        for name, part in parts.items():
            target.writestr(name, part)
    await sandbox.fs.write_bytes("saved.xlsx", data.getvalue())
    output = await _read(sandbox, "saved.xlsx", start_row=3)
    assert "| 3 |   |   |   | 1 |" in output.content


async def test_rows_and_columns_are_limited_and_can_be_chosen(sandbox: Sandbox) -> None:
    output = await _read(sandbox, sheet="Numbers", start_row=1000, max_rows=2)
    lines = output.content.splitlines()
    assert lines[3].startswith("|      | A    | B    |")
    assert lines[3].endswith("| AX   |")
    assert lines[5].startswith("| 1000 | 1000 |")
    assert lines[-1] == "[Showing rows 1000-1001; there are more]"
    last = await _read(sandbox, sheet="Numbers", start_row=1199, max_rows=10)
    assert last.content.endswith("(rows 1199-1200)")
    default = await _read(sandbox, sheet="Numbers")
    assert default.content.endswith("[Showing rows 1-100; there are more]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sheet": "people"}, "there is no sheet 'people'; there are: People, Numbers"),
        ({"sheet": "Chart"}, "is a chart and has no cells"),
        ({"path": "absent.xlsx"}, "File not found: absent.xlsx"),
        ({"path": "."}, "Not a file: ."),
        ({"path": "text.xlsx"}, "it is not an .xlsx or .xlsm workbook"),
        ({"path": "zip.xlsx"}, "it is damaged"),
        ({"max_rows": 501}, "must be at most 500"),
    ],
)
async def test_what_cannot_be_read_is_told(
    sandbox: Sandbox, arguments: dict[str, Any], said: str
) -> None:
    await sandbox.fs.write_text("text.xlsx", "name,born\n")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("readme.txt", "no workbook")
    await sandbox.fs.write_bytes("zip.xlsx", data.getvalue())
    output = await _read(sandbox, **arguments)
    assert not output.success
    assert said in output.content


async def test_an_empty_sheet_is_told(sandbox: Sandbox) -> None:
    output = await _read(sandbox, sheet="Empty")
    assert output.success
    assert output.content.endswith("[There are no cells from row 1 on]")


@pytest.mark.parametrize("name", ["MAX_FILE", "MAX_UNPACKED", "MAX_PART"])
async def test_a_workbook_that_is_too_large_is_not_opened(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(excel, name, 1000)
    output = await _read(sandbox)
    assert not output.success
    assert "more than 1000 bytes" in output.content


def _with_part(part: str, text: bytes) -> bytes:
    """The workbook with another part in it, packed well."""
    data = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_workbook())) as source,
        zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, text if name == part else source.read(name))
    return data.getvalue()


def _styles(count: int) -> bytes:
    space = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return b'<styleSheet xmlns="%s"><cellXfs>%s</cellXfs></styleSheet>' % (
        space, b'<xf numFmtId="0"/>' * count,
    )  # fmt: skip


async def test_a_workbook_that_takes_too_much_is_given_up_by_killing_who_reads_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.fs.write_bytes("b.xlsx", _with_part("xl/styles.xml", _styles(900_000)))
    monkeypatch.setitem(excel.BOUNDS, "RLIMIT_CPU", 1)
    output = await _read(sandbox, "b.xlsx")
    assert output.content == "Cannot read b.xlsx: it takes too much time or memory"
    monkeypatch.setitem(excel.BOUNDS, "RLIMIT_CPU", 30)
    monkeypatch.setitem(excel.BOUNDS, "RLIMIT_AS", 128 * 1024 * 1024)
    output = await _read(sandbox, "b.xlsx")
    assert output.content.startswith("Cannot read b.xlsx: it takes too much ")
    monkeypatch.setitem(excel.BOUNDS, "RLIMIT_AS", 1024 * 1024 * 1024)
    monkeypatch.setattr(excel, "TIMEOUT", 0.5)
    begun = _children()
    output = await _read(sandbox, "b.xlsx")
    assert output.content == "Cannot read b.xlsx within 0.5 s"
    assert _children() == begun


def _children() -> set[str]:
    lists = Path("/proc/self/task").glob("*/children")
    return {child for children in lists for child in children.read_text().split()}


async def test_no_part_of_a_secret_is_left_where_a_cell_was_cut(sandbox: Sandbox) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["-" * 190 + SECRET + "+" * 50])
    data = io.BytesIO()
    book.save(data)
    await sandbox.fs.write_bytes("secret.xlsx", data.getvalue())
    sandbox.redactor |= Redactor({"KEY": SECRET})
    output = await _read(sandbox, "secret.xlsx")
    assert "... (268 characters)" in output.content
    assert SECRET[:3] not in output.content


def test_without_openpyxl_there_is_no_such_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "read_excel" not in build_registry("readonly")
