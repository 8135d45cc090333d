"""The table at the end of a run: what each backend passed of the kit, and what it can do."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from paddock.testing.conformance.base import OFFERED, Conformance

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

__all__ = ["Entry", "entry_of", "lines"]


class Entry(NamedTuple):
    """How a test of the kit ended. `topic` is the class of the kit that it is in."""

    backend: str
    topic: str
    outcome: str
    offered: tuple[str, ...]


def entry_of(item: pytest.Item, outcome: str) -> Entry | None:
    """Return the entry of a test of the kit, and None for any other."""
    cls: type | None = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, Conformance):
        return None
    name = getattr(item, "originalname", item.name)
    defining = next(each for each in cls.__mro__ if name in vars(each))
    arguments = getattr(item, "funcargs", {})
    recipe = arguments.get("backend")
    callspec = getattr(item, "callspec", None)
    label = callspec.params.get("backend") if callspec is not None else None
    return Entry(
        label if isinstance(label, str) else getattr(recipe, "name", "?"),
        defining.__name__.removesuffix("Tests").removeprefix("Test"),
        outcome,
        tuple(sorted(item.stash.get(OFFERED, ()))),
    )


def lines(entries: Iterable[Entry]) -> list[str]:
    """Return the matrices: topic by backend, and capability by backend."""
    outcomes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    offered: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        outcomes[entry.topic, entry.backend][entry.outcome] += 1
        offered[entry.backend].update(entry.offered)
    backends = sorted(offered)
    topics = sorted({topic for topic, _ in outcomes})
    tests = [[topic, *(_cell(outcomes[topic, name]) for name in backends)] for topic in topics]
    every = sorted(set().union(*offered.values()))
    can = [
        [each, *("yes" if each in offered[name] else "-" for name in backends)] for each in every
    ]
    found = _table([["", *backends], *tests])
    return [*found, "", *_table([["", *backends], *can])] if can else found


def _cell(counts: Counter[str]) -> str:
    words = [
        f"{counts[outcome]} {outcome}"
        for outcome in ("passed", "failed", "skipped")
        if counts[outcome]
    ]
    return ", ".join(words) or "-"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
