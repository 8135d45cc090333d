"""What the page shows of one task when it is opened: its result, its output, its trace. Blocks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.fleet.page.excerpts import shortened, tail_of
from paddock.runtime.fleet.page.traces import steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from paddock.runtime.fleet.ledger import Entry
    from paddock.runtime.fleet.page.overview import Row

__all__ = ["details_of"]

MOST_BYTES = 12 * 2**20
"""Of all details together, as JSON: the page opens quickly, and can be mailed."""

RESULT, MESSAGE, OUTPUT = 2_000, 4_000, 3_000
"""Characters of a task's result, of its message, and of each of stdout and stderr."""

MOST_ARTIFACTS = 40
"""Artifacts of one task that are listed."""


def details_of(rows: Iterable[Row], folder: Callable[[str, int], Path]) -> dict[str, Any]:
    """Return the details of as many tasks as there is room for, by key; the first ones first."""
    told: dict[str, Any] = {}
    room = MOST_BYTES
    for row in rows:
        last = next((entry for entry in reversed(row.entries) if _has_ended(entry)), None)
        if last is None:
            continue
        found = _details(last, folder(row.key, last.attempt.number))
        room -= len(json.dumps(found))
        if room < 0:
            break
        told[row.key] = found
    return told


def _has_ended(entry: Entry) -> bool:
    return entry.attempt.state in ("accepted", "superseded", "failed")


def _details(entry: Entry, folder: Path) -> dict[str, Any]:
    attempt = entry.attempt
    artifacts = attempt.details.get("artifacts", {})
    found = {
        "number": attempt.number,
        "task": shortened(entry.task.body, RESULT),
        "message": shortened(attempt.message, MESSAGE),
        "result": "" if attempt.result == "null" else shortened(attempt.result, RESULT),
        "stdout": tail_of(folder / "stdout", OUTPUT),
        "stderr": tail_of(folder / "stderr", OUTPUT),
        "verify": tail_of(folder / "verify" / "stdout", OUTPUT),
        "verify_errors": tail_of(folder / "verify" / "stderr", OUTPUT),
        "trace": steps_of(folder / "trace.jsonl"),
        "artifacts": list(artifacts.items())[:MOST_ARTIFACTS],
        "more_artifacts": max(0, len(artifacts) - MOST_ARTIFACTS),
        "folder": "/".join(folder.parts[-3:]),
    }
    return {name: value for name, value in found.items() if value}
