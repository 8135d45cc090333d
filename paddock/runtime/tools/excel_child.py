"""Reads rows of one workbook, in a process of its own with bounds that the kernel holds.

Run by `paddock.runtime.tools.excel` as a script, with a request as JSON as its argument,
the workbook on stdin, which is a file, and the answer as JSON on stdout. Nothing of
Paddock is imported here: starting has to be cheap.
"""

import contextlib
import json
import resource
import sys
import zipfile
from typing import Any, BinaryIO

SHEETS = "xl/worksheets/"
"""Where sheets are. They are read as they come; every other part is read whole."""


class Unfit(ValueError):
    """It is no workbook that can be read; the message is for the model."""


def main() -> None:
    request = json.loads(sys.argv[1])
    for name, bound in request["bounds"].items():
        # Where the system does not have the bound, the deadline of the parent is left.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (bound, bound))
    sys.path[:] = request["path"]
    try:
        answer = read(sys.stdin.buffer, request)
    except Unfit as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "it takes too much memory"}
    json.dump(answer, sys.stdout)


def read(file: BinaryIO, request: dict[str, Any]) -> dict[str, Any]:
    """`sheets`, the `sheet` that was chosen, its `rows`, and whether there are `more`."""
    check(file, request)
    workbook = opened(file)
    names, wanted = workbook.sheetnames, request["sheet"]
    chosen = wanted if wanted is not None else (names[0] if names else None)
    if chosen is None or chosen not in names:
        raise Unfit(f"there is no sheet {chosen!r}; there are: {', '.join(names) or 'none'}")
    found = rows(workbook[chosen], request)
    count = request["count"]
    return {
        "sheets": names,
        "sheet": chosen,
        "rows": [[cell(value, request["width"]) for value in row] for row in found[:count]],
        "more": len(found) > count,
    }


def check(file: BinaryIO, request: dict[str, Any]) -> None:
    """Bound what the parts say that they have; no more than that is ever unpacked of them."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except zipfile.BadZipFile:
        raise Unfit("it is not an .xlsx or .xlsm workbook") from None
    if sum(part.file_size for part in parts) > request["max_unpacked"]:
        raise Unfit(f"unpacked it has more than {request['max_unpacked']} bytes")
    for part in parts:
        if part.file_size > request["max_part"] and not part.filename.startswith(SHEETS):
            raise Unfit(f"{part.filename!r} in it has more than {request['max_part']} bytes")


def opened(file: BinaryIO) -> Any:
    import openpyxl

    try:
        return openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes it fail in any way
        raise Unfit(f"it is damaged ({type(error).__name__})") from error


def rows(sheet: Any, request: dict[str, Any]) -> list[Any]:
    """Rows from `start` on; one more than `count` if there are more."""
    if not hasattr(sheet, "iter_rows"):
        raise Unfit(f"the sheet {sheet.title!r} is a chart and has no cells")
    if hasattr(sheet, "reset_dimensions"):
        sheet.reset_dimensions()  # what the file says of its size need not be so
    start = request["start"]
    try:
        return list(
            sheet.iter_rows(
                min_row=start,
                max_row=start + request["count"],
                max_col=request["columns"],
                values_only=True,
            )
        )
    except MemoryError:
        raise
    except Exception as error:
        raise Unfit(f"its sheet is damaged ({type(error).__name__})") from error


def cell(value: object, width: int) -> tuple[str, int] | None:
    """The beginning of a value, and how many characters it has."""
    if value is None:
        return None
    text = str(value)
    return text[:width], len(text)


if __name__ == "__main__":
    main()
