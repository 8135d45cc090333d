"""`read_excel`: the cells of a workbook that is in the sandbox.

The file is fetched whole, within bounds, and read on this machine, by a process of its own:
a small file may take all memory and time, and a thread can't be killed. Nothing in it is run.
Values of formulas are those that the program which saved the file had worked out.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.files import failed, refused
from paddock.runtime.tools.table import MAX_CELL, Beginning, render_table
from paddock.runtime.tools.worker import child_environment, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.redaction import Redactor
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["ReadExcelHandler", "openpyxl_is_installed"]

MAX_FILE: Final = 32 * 1024 * 1024
MAX_UNPACKED: Final = 256 * 1024 * 1024
"""Bytes of all that is in a workbook, which is an archive; a bomb says it has more."""

MAX_PART: Final = 32 * 1024 * 1024
"""Bytes of a part that is read whole, which is each that is no sheet."""

MAX_ROWS: Final = 500
DEFAULT_ROWS: Final = 100
MAX_COLUMNS: Final = 50
TIMEOUT: Final = 60.0
"""Seconds for the largest file that is let in."""

BOUNDS: Final = {
    "RLIMIT_CPU": 30,  # seconds; 32 MiB of numbers take 20
    "RLIMIT_AS": 1024 * 1024 * 1024,  # bytes; a part of 32 MiB that is read whole takes half
    "RLIMIT_FSIZE": 64 * 1024 * 1024,  # bytes of the answer: 25,000 cells of 200 characters
    "RLIMIT_CORE": 0,
}
CHILD: Final = Path(__file__).with_name("excel_child.py")


def openpyxl_is_installed() -> bool:
    """Whether `read_excel` can be offered; imports nothing."""
    return importlib.util.find_spec("openpyxl") is not None


class _Unfit(ValueError):
    """It is no workbook that can be read; the message is for the model."""


class _Reading:
    """One process that reads `data`, and a `Stop` that kills it. Serves one call."""

    def __init__(self, data: bytes, request: Mapping[str, Any]) -> None:
        self._data = data
        self._request = json.dumps(request)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def answer(self) -> dict[str, Any]:
        """What the process found. Blocks until it has ended."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
            given.write(self._data)
            given.seek(0)
            with self._started(given, output) as child:
                code = child.wait()
            if code != 0:
                raise _Unfit("it takes too much time or memory")
            output.seek(0)
            found: dict[str, Any] = json.load(output)
        if "error" in found:
            raise _Unfit(found["error"])
        return found

    def _started(self, given: IO[bytes], output: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise _Unfit("stopped")
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(CHILD), self._request],
                stdin=given,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=child_environment(),
            )
        return self._child

    def ask(self) -> None:
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    def force(self) -> None:
        self.ask()


class ReadExcelHandler(ToolHandler):
    """Shows rows of one sheet as a table, and which sheets there are."""

    name = "read_excel"
    description: str = (
        "Read a sheet of an Excel workbook (.xlsx, .xlsm) as a table, with row numbers and column "
        f"letters; the first sheet if none is named. {DEFAULT_ROWS} rows at once unless told "
        f"otherwise, at most {MAX_ROWS}, and {MAX_COLUMNS} columns: give start_row for others. "
        "Formulas are shown as their values."
    )
    parameters = object_schema(
        required=["path"],
        path={"type": "string", "description": "The workbook."},
        sheet={"type": "string", "description": "A sheet's name; the first if absent."},
        start_row={"type": "integer", "description": "First row, from 1.", "minimum": 1},
        max_rows={
            "type": "integer",
            "description": f"How many rows; {DEFAULT_ROWS} if absent.",
            "minimum": 1,
            "maximum": MAX_ROWS,
        },
    )

    is_concurrent: Final = True

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = invocation.arguments
        path = parse_path(arguments["path"])
        sandbox = await invocation.context.sandbox()
        try:
            info = await sandbox.fs.stat(path)
            if info.kind != "file":  # opening a pipe or a device could wait forever
                return failed(f"Not a file: {show_path(path)}")
            data = await sandbox.fs.read_bytes(path, limit=MAX_FILE + 1)
        except OSError as error:
            return refused(error, path)
        if len(data) > MAX_FILE:
            return failed(f"Cannot read {show_path(path)}: it has more than {MAX_FILE} bytes")
        start = arguments.get("start_row", 1)
        count = arguments.get("max_rows", DEFAULT_ROWS)
        reading = _Reading(data, _request(arguments.get("sheet"), start, count))
        try:
            answer = await run_in_thread(reading.answer, stop=reading, limit=TIMEOUT)
        except _Unfit as error:
            return failed(f"Cannot read {show_path(path)}: {error}")
        except TimeoutError:
            return failed(f"Cannot read {show_path(path)} within {TIMEOUT:g} s")
        return ToolOutput(content=_shown(answer, start, sandbox.redactor))


def _request(sheet: str | None, start: int, count: int) -> dict[str, Any]:
    return {
        "bounds": BOUNDS,
        "path": [place for place in sys.path if place],
        "max_unpacked": MAX_UNPACKED,
        "max_part": MAX_PART,
        "sheet": sheet,
        "start": start,
        "count": count,
        "columns": MAX_COLUMNS,
        "width": MAX_CELL,
    }


def _shown(answer: Mapping[str, Any], start: int, redactor: Redactor) -> str:
    names, rows = ", ".join(answer["sheets"]), answer["rows"]
    head = f"Sheets: {names}\nSheet: {answer['sheet']}\n"
    if not rows:
        return f"{head}[There are no cells from row {start} on]"
    last = start + len(rows) - 1
    more = f"[Showing rows {start}-{last}; there are more]"
    note = more if answer["more"] else f"(rows {start}-{last})"
    return f"{head}{_table(rows, start, redactor)}\n{note}"


def _table(rows: Sequence[Sequence[Any]], start: int, redactor: Redactor) -> str:
    filled = (at for row in rows for at, cell in enumerate(row, 1) if cell is not None)
    width = max(filled, default=1)
    letters = [_letter(number) for number in range(width)]
    body = [
        (number, *(_value(cell) for cell in _padded(row, width)))
        for number, row in enumerate(rows, start)
    ]
    return render_table(["", *letters], body, redactor)


def _letter(number: int) -> str:
    """The name of a column, for the first 26 * 27 of them."""
    before, last = divmod(number, 26)
    return (chr(ord("A") + before - 1) if before else "") + chr(ord("A") + last)


def _value(cell: Sequence[Any] | None) -> Beginning | str:
    return "" if cell is None else Beginning(text=cell[0], size=cell[1])


def _padded(row: Sequence[Any], width: int) -> Sequence[Any]:
    return [*row[:width], *[None] * (width - len(row))]
