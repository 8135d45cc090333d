"""Rows whose changes wait until their transaction ends, for stores that cannot take them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["BufferedRows"]


class BufferedRows(ABC):
    """`Rows` that are read from a store; `written` has what is to be written to it.

    There a row is its group and its value, or None if it is to be removed.
    """

    def __init__(self) -> None:
        self.written: dict[tuple[str, str], tuple[str, bytes] | None] = {}

    def get(self, table: str, key: str) -> bytes | None:
        if (table, key) in self.written:
            row = self.written[table, key]
            return None if row is None else row[1]
        return self._get(table, key)

    def all(
        self, table: str, group: str | None = None, *, skip: int = 0
    ) -> Iterable[tuple[str, bytes]]:
        return [*islice(self._merged(table, group), skip, None)]

    def put(self, table: str, key: str, value: bytes, *, group: str = "") -> None:
        self.written[table, key] = group, value

    def delete(self, table: str, key: str) -> None:
        self.written[table, key] = None

    def _merged(self, table: str, group: str | None) -> Iterator[tuple[str, bytes]]:
        """The rows of the store, then those that are new."""
        known = set()
        for key, value in self._all(table, group):
            known.add(key)
            row = self.written.get((table, key), ("", value))
            if row is not None:
                yield key, row[1]
        for (name, key), row in self.written.items():
            if name == table and key not in known and row and group in (None, row[0]):
                yield key, row[1]

    @abstractmethod
    def is_elsewhere(self, table: str, key: str) -> bool:
        """See `Rows.is_elsewhere`."""

    @abstractmethod
    def _get(self, table: str, key: str) -> bytes | None:
        """Return a row of the store."""

    @abstractmethod
    def _all(self, table: str, group: str | None) -> Iterable[tuple[str, bytes]]:
        """Return rows of the store, in their order."""
