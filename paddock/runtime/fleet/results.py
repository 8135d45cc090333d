"""What came of a task, and of a batch: results, counts, and the exit code that CI reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from paddock.runtime.fleet.faults import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from paddock.runtime.fleet.faults import Fault
    from paddock.runtime.fleet.ledger import Entry

__all__ = [
    "GAVE_UP",
    "TaskResult",
    "TaskStatus",
    "exit_code",
    "judged",
    "line_of",
    "restored",
    "status_of",
]

T = TypeVar("T")

TaskStatus = Literal["completed", "error", "cancelled"]

OK, FAILED, INCONCLUSIVE = 0, 1, 4

GAVE_UP = 75
"""The exit code of a batch that is to be resumed: EX_TEMPFAIL of sysexits.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(Generic[T]):
    """What came of one task: a `result`, or the `error` that it raised, or it was cancelled.

    A `result` that has a `raise_for_status`, such as a `RunResult`, and raises there is an
    error, with the result beside it.

    A task of a `Fleet` has its `key`, the `attempt` that was accepted, the `fault` and the
    `directory` with its files; its error is a `TaskFailed`. `earlier` says that an earlier process
    finished it: then `result` is what its JSON says.
    """

    status: TaskStatus
    result: T | None = None
    error: Exception | None = None
    key: str = ""
    attempt: int = 0
    fault: Fault | None = None
    seconds: float = 0.0
    directory: Path | None = None
    earlier: bool = False


@runtime_checkable
class _Judging(Protocol):
    def raise_for_status(self) -> object: ...


def judged(result: T) -> T:
    """Return `result`, or raise what its own `raise_for_status` raises."""
    if isinstance(result, _Judging):
        result.raise_for_status()
    return result


def status_of(fault: Fault | None) -> TaskStatus:
    if fault is None:
        return "completed"
    return "cancelled" if fault == "cancelled" else "error"


def restored(entry: Entry, directory: Path) -> TaskResult[Any]:
    """Return the result of a task that was finished earlier."""
    attempt = entry.attempt
    failed = None if attempt.fault is None else TaskFailed(attempt.fault, attempt.message)
    return TaskResult(
        status=status_of(attempt.fault),
        result=json.loads(attempt.result),
        error=failed,
        key=attempt.key,
        attempt=attempt.number,
        fault=attempt.fault,
        seconds=entry.ended - entry.began,
        directory=directory,
        earlier=True,
    )


def line_of(entry: Entry) -> dict[str, Any]:
    """Return the line of results.jsonl for a finished task."""
    attempt = entry.attempt
    return {
        "key": attempt.key,
        "status": status_of(attempt.fault),
        "fault": attempt.fault,
        "message": attempt.message,
        "result": json.loads(attempt.result),
        "attempt": attempt.number,
        "began": entry.began,
        "ended": entry.ended,
        **attempt.details,
    }


def exit_code(counts: Mapping[str, int], *, fail_under: float = 1.0) -> int:
    """Return 0 if enough tasks are completed, 4 if infrastructure alone is to blame, else 1.

    `counts` are those of `Ledger.counts` at the end, `fail_under` is the share of the tasks that
    has to be completed.
    """
    total = sum(counts.values())
    if not total or counts.get("completed", 0) >= fail_under * total:
        return OK
    unfinished = {"completed", "pending", "running"}
    faults = [each for each in counts if each not in unfinished]
    blameless = all(each.startswith("infra.") for each in faults)
    return INCONCLUSIVE if faults and blameless else FAILED
