"""How entries of a catalog lead from one to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.runtime.orchestration.catalog.base import Catalog, Link

__all__ = ["MAX_PATHS", "shortest_paths"]

MAX_PATHS = 10
MAX_LINKS = 5_000
"""Relations that are looked at: of a catalog in which everything leads everywhere, the nearest."""


async def shortest_paths(
    catalog: Catalog, start: str, end: str, max_depth: int
) -> tuple[list[list[str]], bool]:
    """Return the shortest ways from the id `start` to `end`, and whether that may not be all.

    A relation leads both ways. Each way has the ids that it passes, of at most `max_depth`
    relations.
    """
    before: dict[str, list[str]] = {start: []}
    edge, seen = [start], 0
    for _ in range(max_depth):
        if end in before or not edge or seen >= MAX_LINKS:
            break
        links = await catalog.links(edge, MAX_LINKS - seen)
        seen += len(links)
        reached: dict[str, list[str]] = {}
        for here, there in _steps(links, set(edge)):
            if there not in before and here not in reached.setdefault(there, []):
                reached[there].append(here)
        before |= reached
        edge = [*reached]
    found: list[list[str]] = []
    for path in _ways(before, end) if end in before else ():
        if len(found) == MAX_PATHS:
            return found, True
        found.append(path)
    return found, seen >= MAX_LINKS


def _steps(links: Sequence[Link], edge: set[str]) -> Iterator[tuple[str, str]]:
    for link in links:
        if link.source in edge:
            yield link.source, link.target
        if link.target in edge:
            yield link.target, link.source


def _ways(before: dict[str, list[str]], end: str) -> Iterator[list[str]]:
    if not before[end]:
        yield [end]
    for previous in before[end]:
        for way in _ways(before, previous):
            yield [*way, end]
