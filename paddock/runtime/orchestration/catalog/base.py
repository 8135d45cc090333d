"""What the tools need of a catalog, wherever its entries are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.orchestration.catalog.entries import CatalogEntry

__all__ = ["TABLE", "Catalog", "Link"]

TABLE = "paddock_catalog"
"""The table of a database that has the entries, unless another one is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The entry `source` names `target` as related. `about` is what it says of the relation."""

    source: str
    target: str
    about: Mapping[str, Any] = field(default_factory=dict)


class Catalog(ABC):
    """The entries of one tenant and workspace. All methods raise `PaddockError` where the entries
    cannot be read."""

    @abstractmethod
    async def search(
        self, words: Sequence[str], kinds: Sequence[str], limit: int
    ) -> Sequence[tuple[CatalogEntry, float]]:
        """Return entries that have any of `words`, or words that begin so, with their scores.

        The best come first. Without `kinds` all are searched.
        """

    @abstractmethod
    async def get(self, names: Sequence[str]) -> Mapping[str, CatalogEntry]:
        """Return the entries with these ids or else these qualified names, as far as there are."""

    @abstractmethod
    async def columns(self, table: CatalogEntry, limit: int) -> Sequence[CatalogEntry]:
        """Return the columns of `table`: those that are related to it, are named below it, or
        whose metadata name it."""

    @abstractmethod
    async def links(self, ids: Sequence[str], limit: int) -> Sequence[Link]:
        """Return the relations from and to these entries."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close what is open; the next call opens it again."""
