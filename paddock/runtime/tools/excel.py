"""`read_excel`: the cells of a workbook that is in the sandbox.

The file is fetched whole, within bounds, and read here; nothing in it is run. Values of
formulas are those that the program which saved the file had worked out.
"""

from __future__ import annotations

import importlib.util
import io
import threading
import zipfile
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.base import ToolHandler, ToolOutput, sandbox_of
from paddock.runtime.tools.files import failed, refused
from paddock.runtime.tools.output import truncate_output
from paddock.runtime.tools.paths import parse_path, show_path
from paddock.runtime.tools.table import render_table
from paddock.runtime.tools.worker import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openpyxl import Workbook

    from paddock.runtime.tools.base import ToolInvocation

__all__ = ["ReadExcelHandler", "openpyxl_is_installed"]

MAX_FILE: Final = 32 * 1024 * 1024
MAX_UNPACKED: Final = 256 * 1024 * 1024
"""Bytes of all that is in a workbook, which is an archive; a bomb says it has more."""

MAX_ROWS: Final = 500
DEFAULT_ROWS: Final = 100
MAX_COLUMNS: Final = 50
TIMEOUT: Final = 60.0
"""Seconds for the largest file that is let in."""


def openpyxl_is_installed() -> bool:
    """Whether `read_excel` can be offered; imports nothing."""
    return importlib.util.find_spec("openpyxl") is not None


class _Unfit(ValueError):
    """It is no workbook that can be read; the message is for the model."""


class _Flag:
    """A `Stop` for work that looks at it between rows."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def check(self) -> None:
        if self._event.is_set():
            raise _Unfit("stopped")

    def ask(self) -> None:
        self._event.set()

    def force(self) -> None:
        self._event.set()


class ReadExcelHandler(ToolHandler):
    """Shows rows of one sheet as a table, and which sheets there are."""

    name = "read_excel"
    description = (
        "Read a sheet of an Excel workbook (.xlsx, .xlsm) as a table, with row numbers and column "
        f"letters; the first sheet if none is named. {DEFAULT_ROWS} rows at once unless told "
        f"otherwise, at most {MAX_ROWS}, and {MAX_COLUMNS} columns: give start_row for others. "
        "Formulas are shown as their values."
    )
    parameters: Final[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "The workbook."},
            "sheet": {"type": "string", "description": "A sheet's name; the first if absent."},
            "start_row": {"type": "integer", "description": "First row, from 1.", "minimum": 1},
            "max_rows": {
                "type": "integer",
                "description": f"How many rows; {DEFAULT_ROWS} if absent.",
                "minimum": 1,
                "maximum": MAX_ROWS,
            },
        },
        "required": ["path"],
        "additionalProperties": False,
    }

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = invocation.arguments
        path = parse_path(arguments["path"])
        fs = (await sandbox_of(invocation)).fs
        try:
            info = await fs.stat(path)
            if info.kind != "file":  # opening a pipe or a device could wait forever
                return failed(f"Not a file: {show_path(path)}")
            data = await fs.read_bytes(path, limit=MAX_FILE + 1)
        except OSError as error:
            return refused(error, path)
        flag = _Flag()
        sheet, start = arguments.get("sheet"), arguments.get("start_row", 1)
        count = arguments.get("max_rows", DEFAULT_ROWS)
        try:
            text = await run_in_thread(
                lambda: _read(data, sheet, start, count, flag), stop=flag, limit=TIMEOUT
            )
        except _Unfit as error:
            return failed(f"Cannot read {show_path(path)}: {error}")
        except TimeoutError:
            return failed(f"Cannot read {show_path(path)} within {TIMEOUT:g} s")
        return ToolOutput(content=truncate_output(text))


def _read(data: bytes, sheet: str | None, start: int, count: int, flag: _Flag) -> str:
    _check(data)
    workbook = _open(data)
    try:
        names = workbook.sheetnames
        chosen = sheet if sheet is not None else (names[0] if names else None)
        if chosen is None or chosen not in names:
            raise _Unfit(f"there is no sheet {chosen!r}; there are: {', '.join(names) or 'none'}")
        rows, more = _rows(workbook, chosen, start, count, flag)
    finally:
        workbook.close()
    head = f"Sheets: {', '.join(names)}\nSheet: {chosen}\n"
    if not rows:
        return f"{head}[There are no cells from row {start} on]"
    last = start + len(rows) - 1
    note = f"[Showing rows {start}-{last}; there are more]" if more else f"(rows {start}-{last})"
    return f"{head}{_table(rows, start)}\n{note}"


def _check(data: bytes) -> None:
    if len(data) > MAX_FILE:
        raise _Unfit(f"it has more than {MAX_FILE} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise _Unfit("it is not an .xlsx or .xlsm workbook") from None
    if unpacked > MAX_UNPACKED:
        raise _Unfit(f"unpacked it has more than {MAX_UNPACKED} bytes")


def _open(data: bytes) -> Workbook:
    import openpyxl

    try:
        return openpyxl.load_workbook(
            io.BytesIO(data), read_only=True, data_only=True, keep_links=False
        )
    except Exception as error:  # a damaged file makes it fail in any way
        raise _Unfit(f"it is damaged ({type(error).__name__})") from error


def _rows(
    workbook: Workbook, name: str, start: int, count: int, flag: _Flag
) -> tuple[list[Sequence[object]], bool]:
    """Rows from `start` on, `count` at most, and whether there are more."""
    sheet: Any = workbook[name]
    if not hasattr(sheet, "iter_rows"):
        raise _Unfit(f"the sheet {name!r} is a chart and has no cells")
    if hasattr(sheet, "reset_dimensions"):
        sheet.reset_dimensions()  # what the file says of its size need not be so
    found: list[Sequence[object]] = []
    try:
        for row in sheet.iter_rows(
            min_row=start, max_row=start + count, max_col=MAX_COLUMNS, values_only=True
        ):
            flag.check()
            found.append(row)
    except _Unfit:
        raise
    except Exception as error:
        raise _Unfit(f"its sheet is damaged ({type(error).__name__})") from error
    return found[:count], len(found) > count


def _table(rows: Sequence[Sequence[object]], start: int) -> str:
    from openpyxl.utils import get_column_letter

    filled = (at for row in rows for at, cell in enumerate(row, 1) if cell is not None)
    width = max(filled, default=1)
    letters = [get_column_letter(number) for number in range(1, width + 1)]
    body = [
        (number, *("" if cell is None else cell for cell in _padded(row, width)))
        for number, row in enumerate(rows, start)
    ]
    return render_table(["", *letters], body)


def _padded(row: Sequence[object], width: int) -> Sequence[object]:
    return [*row[:width], *[None] * (width - len(row))]
