"""Builds the page of a batch from its ledger and its directory. Blocks."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from paddock.runtime.fleet.page.details import details_of
from paddock.runtime.fleet.page.document import document
from paddock.runtime.fleet.page.excerpts import shortened
from paddock.runtime.fleet.page.overview import look_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.fleet.ledger import Ledger
    from paddock.runtime.fleet.run_directory import RunDirectory

__all__ = ["report_page"]

NAME = 300
"""Characters of the work and of other names in the head."""


def report_page(
    ledger: Ledger, directory: RunDirectory, *, code: int | None, gave_up: str | None
) -> str:
    """Return report.html. `code` is the exit code, None for a batch that has not ended."""
    known, counts = directory.configuration(), ledger.counts()
    overview = look_over(ledger.states(), ledger.history(), time.time())
    verdict = _verdict(code, counts)
    name = f"{directory.path.parent.name}/{directory.path.name}"
    shown = {
        **overview.shown,
        **_head(known),
        "counts": counts,
        "total": sum(counts.values()),
        "exit": code,
        "gave_up": gave_up,
        "details": details_of(overview.rows, directory.folder),
    }
    return document(name, verdict, shown)


def _verdict(code: int | None, counts: Mapping[str, int]) -> str:
    total, completed = sum(counts.values()), counts.get("completed", 0)
    match code:
        case None:
            return f"Not finished: {completed:,} of {total:,} tasks are completed"
        case 0 if completed == total:
            said = "All tasks are completed"
        case 0:
            said = f"{completed:,} of {total:,} tasks are completed, which is enough"
        case 4:
            said = "Inconclusive: tasks failed, all by the infrastructure"
        case 75:
            said = "The batch gave up, and can be resumed"
        case _:
            said = f"{total - completed:,} of {total:,} tasks failed"
    return f"{said} (exit code {code})"


def _head(known: Mapping[str, Any]) -> dict[str, Any]:
    configuration = known.get("configuration", {})
    backend, work = configuration.get("backend"), configuration.get("work")
    return {
        "version": version("paddock"),
        "commit": known.get("circumstances", {}).get("commit"),
        "backend": _named(backend),
        "image": (configuration.get("image") or "")[:19],
        "work": _work(work),
    }


def _named(backend: object) -> str:
    """Return the kind of backend, and its image if it has one."""
    if not isinstance(backend, dict):
        return shortened(str(backend), NAME)
    parts = (str(backend[name]) for name in ("type", "image") if backend.get(name))
    return shortened(" ".join(parts), NAME)


def _work(work: object) -> str:
    if not isinstance(work, dict):
        return ""
    match work:
        case {"command": str(line)}:
            return shortened(line, NAME)
        case {"command": list(words)}:
            return shortened(" ".join(map(str, words)), NAME)
        case {"function": name}:
            return shortened(str(name), NAME)
        case _:
            return "an agent"
