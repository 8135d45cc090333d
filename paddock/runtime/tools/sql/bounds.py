"""How much of one row comes to this machine: a value in a database may be a gigabyte long.

PostgreSQL is asked for the beginnings of values and for their sizes, Oracle's large objects
are read from their beginnings. MySQL can do neither without changing the order of rows, so
its driver stops at a row that is too long. Knows no connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from paddock.runtime.tools.table import Beginning

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MAX_ROW", "MAX_ROW_BYTES", "Shortened", "opened", "room", "shortened_for_postgres"]

MAX_ROW: Final = 4 * 1024 * 1024
"""Characters or bytes of a row whose values are cut. Ten rows are in memory at once."""

MAX_ROW_BYTES: Final = 2**24 - 1
"""Bytes of a row where no value can be cut, so many that MySQL sends it in several packets."""

_BYTES: Final = 17
_SHORT_TYPES: Final = frozenset({
    16, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29, 600, 601, 603, 628, 650, 700, 701, 718, 774, 790,
    829, 869, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2205, 2206, 2278, 2950, 3220,
})  # fmt: skip
"""PostgreSQL's numbers of the types whose values are short, by themselves or by their limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortened:
    """A query whose values are not too long. `sized` says for each column whether a value is the
    pair of a beginning and its size. They are one value, since a query has a bound of columns."""

    sql: str
    columns: tuple[str, ...]
    sized: tuple[bool, ...]

    def row(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """A row as the query gives it, as one of the query that was shortened."""
        pairs = zip(self.sized, values, strict=True)
        return tuple(_begun(*value) if sized else value for sized, value in pairs)


def _begun(beginning: Any, size: Any) -> Any:
    if beginning is None:
        return None
    size = int.from_bytes(size) if isinstance(size, bytes) else int(size)
    return beginning if size == len(beginning) else Beginning(text=beginning, size=size)


def room(columns: int) -> int:
    """How long a value may be in a row of so many columns."""
    return MAX_ROW // max(columns, 1)


def shortened_for_postgres(sql: str, columns: Sequence[tuple[str, int]]) -> Shortened | None:
    """The query `sql`, whose `columns` have a name and a type each, in another that cuts long
    values; None where there are none. It gives the same rows in the same order; what is neither
    short nor bytes becomes text."""
    sized = tuple(number not in _SHORT_TYPES for _, number in columns)
    if not any(sized):
        return None
    most = room(len(columns))
    names = [f"c{position}" for position in range(len(columns))]
    wanted = []
    for name, (_, number), long in zip(names, columns, sized, strict=True):
        if number == _BYTES:
            size = f"int4send(octet_length({name}))"
            wanted.append(f"ARRAY[substring({name}, 1, {most}), {size}]")
        elif long:
            wanted.append(f"ARRAY[left({name}::text, {most}), length({name}::text)::text]")
        else:
            wanted.append(name)
    outer = f"SELECT {', '.join(wanted)} FROM ({sql}\n) AS q ({', '.join(names)})"
    return Shortened(sql=outer, columns=tuple(name for name, _ in columns), sized=sized)


def opened(value: Any, columns: int) -> Any:
    """A large object of Oracle as its value, or the beginning of it; any other value as it is.

    Reads from the server.
    """
    if not (hasattr(value, "read") and hasattr(value, "size")):
        return value
    most, size = room(columns), value.size()
    if not size:
        return value.read()
    beginning = value.read(1, most)
    return beginning if size <= most else Beginning(text=beginning, size=size)
