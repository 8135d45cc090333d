"""Rows as text: a table that a model reads, or CSV. Knows not where the rows come from."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paddock.redaction import Redactor

__all__ = ["MAX_CELL", "Beginning", "CsvText", "draw_table", "render_table", "shown_row"]

MAX_CELL: Final = 200
"""Characters of one value in a table."""

MAX_BINARY: Final = 32
"""Bytes of a binary value in a table, as hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A value of which only the first characters, or bytes, came: of `size`, at least `MAX_CELL`
    or all of them."""

    text: str | bytes
    size: int


def render_table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], redactor: Redactor
) -> str:
    """An ASCII table. A value keeps to one line and to 200 characters; None is ``NULL``.

    No part of a secret of `redactor` is in it, also where a value was cut.
    """
    return draw_table(shown_row(columns, redactor), [shown_row(row, redactor) for row in rows])


def draw_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """An ASCII table of what `shown_row` gave."""
    widths = [max(map(len, cells)) for cells in zip(head, *body, strict=True)]
    rule = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    lines = [rule, _line(head, widths), rule, *(_line(row, widths) for row in body)]
    return "\n".join([*lines, rule] if body else lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def shown_row(row: Sequence[object], redactor: Redactor) -> list[str]:
    """Each value as printable text on one line, cut where it is long, without secrets."""
    return [_shown_value(value, redactor) for value in row]


def _shown_value(value: object, redactor: Redactor) -> str:
    match value:
        case None:
            return "NULL"
        case bytes() | bytearray() | memoryview():
            return _shown_binary(bytes(value), len(value), redactor)
        case Beginning(text=bytes(data)):
            return _shown_binary(data, value.size, redactor)
        case Beginning():
            return _shown_text(str(value.text), value.size, redactor)
    text = str(value)
    return _shown_text(text, len(text), redactor)


def _shown_binary(data: bytes, size: int, redactor: Redactor) -> str:
    if size <= MAX_BINARY:
        return f"0x{redactor.data(data).hex()}"
    return f"0x{redactor.head(data[:MAX_BINARY]).hex()}... ({size} bytes)"


def _shown_text(text: str, size: int, redactor: Redactor) -> str:
    # Before anything is escaped: a secret may hold what is not printable.
    cut = redactor.text(text) if size <= MAX_CELL else redactor.beginning(text[:MAX_CELL])
    shown = "".join(char if char.isprintable() else _escaped(char) for char in cut)
    return shown if size <= MAX_CELL else f"{shown}... ({size} characters)"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "replace").decode("ascii")


class CsvText:
    """CSV with a head line, as it grows. None is an empty field, a binary value is ``0x...``.

    No secret of `redactor` is in it. `cut` counts the values of which there was only a beginning.
    """

    def __init__(self, columns: Sequence[object], redactor: Redactor) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._redactor = redactor
        self.rows = 0
        self.cut = 0
        self._write(columns)

    @property
    def size(self) -> int:
        """Characters so far."""
        return self._text.tell()

    def add(self, row: Sequence[Any]) -> None:
        self._write(row)
        self.rows += 1
        self.cut += sum(isinstance(value, Beginning) for value in row)

    def encode(self) -> bytes:
        return clean_text(self._text.getvalue()).encode()

    def _write(self, row: Sequence[Any]) -> None:
        self._writer.writerow([_field(value, self._redactor) for value in row])


def _field(value: object, redactor: Redactor) -> str | None:
    match value:
        case None:
            return None
        case bytes() | bytearray() | memoryview():
            return f"0x{redactor.data(bytes(value)).hex()}"
        case Beginning(text=bytes(data)):
            return f"0x{redactor.head(data).hex()}"
        case Beginning():
            return redactor.beginning(str(value.text))
    return redactor.text(str(value))
