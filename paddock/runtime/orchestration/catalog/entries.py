"""An entry of a catalog: a table, a column, a document and the like, and what it is related to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from paddock.errors import ConfigError
from paddock.runtime.core.jsontext import problems_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["KINDS", "CatalogEntry", "Kind", "read_entries", "read_entry"]

Kind = Literal[
    "table",
    "column",
    "relationship",
    "enum_value",
    "metric",
    "document",
    "knowledge",
    "data_quality_finding",
]
KINDS: tuple[str, ...] = get_args(Kind)


class CatalogEntry(BaseModel):
    """`related` has ids of other entries, or mappings with an `id` and more."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(min_length=1)
    item_type: Kind = Field(validation_alias=AliasChoices("itemType", "item_type"))
    name: str = Field(min_length=1)
    qualified_name: str = Field(
        default="", validation_alias=AliasChoices("qualified_name", "qualifiedName")
    )
    content: str = ""
    tags: tuple[str, ...] = ()
    related: tuple[str | dict[str, Any], ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return self.qualified_name or self.name

    def to_dict(self) -> dict[str, Any]:
        """Return it as tools return it."""
        return {
            "id": self.id,
            "itemType": self.item_type,
            "name": self.name,
            "qualified_name": self.full_name,
            "content": self.content,
            "tags": list(self.tags),
            "related": list(self.related),
            "metadata": self.metadata,
        }

    def links(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the ids of related entries, each with the description of the relation."""
        for each in self.related:
            if isinstance(each, str):
                yield each, {}
            elif isinstance(found := each.get("id"), str):
                yield found, {key: value for key, value in each.items() if key != "id"}


def read_entry(given: object, what: str) -> CatalogEntry:
    """Return the entry. Raise `ConfigError` naming `what`, and what is wrong with it."""
    try:
        entry = CatalogEntry.model_validate(given)
        json.dumps(entry.to_dict(), allow_nan=False)
    except ValidationError as error:
        raise ConfigError(f"{what}: {'; '.join(problems_in(error))}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: JSON cannot hold it: {error}") from None
    return entry


def read_entries(given: Sequence[Mapping[str, Any]], what: str) -> tuple[CatalogEntry, ...]:
    """Return the entries. Raise `ConfigError` for a wrong one, and for an id that comes twice."""
    found: dict[str, CatalogEntry] = {}
    for number, each in enumerate(given):
        entry = read_entry(each, f"{what}[{number}]")
        if found.setdefault(entry.id, entry) is not entry:
            raise ConfigError(f"{what}[{number}]: the id {entry.id!r} is there twice")
    return tuple(found.values())
