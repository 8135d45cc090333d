"""Rows as text: a table that a model reads, or CSV. Knows not where the rows come from."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.output import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CsvText", "render_table", "shown_value"]

MAX_CELL: Final = 200
"""Characters of one value in a table."""

MAX_BINARY: Final = 32
"""Bytes of a binary value in a table, as hexadecimal digits."""


def render_table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """An ASCII table. A value keeps to one line and to 200 characters; None is ``NULL``."""
    head = [shown_value(name) for name in columns]
    body = [[shown_value(value) for value in row] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(head, *body, strict=True)]
    rule = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    lines = [rule, _line(head, widths), rule, *(_line(row, widths) for row in body)]
    return "\n".join([*lines, rule] if body else lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def shown_value(value: object) -> str:
    """`value` as printable text on one line, cut where it is long."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        more = f"... ({len(data)} bytes)" if len(data) > MAX_BINARY else ""
        return f"0x{data[:MAX_BINARY].hex()}{more}"
    text = str(value)
    cut = text[:MAX_CELL]
    shown = "".join(char if char.isprintable() else _escaped(char) for char in cut)
    return shown if len(cut) == len(text) else f"{shown}... ({len(text)} characters)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "replace").decode("ascii")


class CsvText:
    """CSV with a head line, as it grows. None is an empty field, a binary value is ``0x...``."""

    def __init__(self, columns: Sequence[object]) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._writer.writerow(columns)
        self.rows = 0

    @property
    def size(self) -> int:
        """Characters so far."""
        return self._text.tell()

    def add(self, row: Sequence[Any]) -> None:
        self._writer.writerow([_field(value) for value in row])
        self.rows += 1

    def encode(self) -> bytes:
        return readable(self._text.getvalue()).encode()


def _field(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"0x{bytes(value).hex()}"
    return value
