"""Which runs the caller is part of: those wait for it, so it must not wait for their end.

A run is known by its task, the one in which `Session.run` was awaited. Knows no session.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Task", "current", "is_awaited_by", "is_inside", "part_of"]

Task = asyncio.Task[Any]

_runs: ContextVar[frozenset[Task]] = ContextVar("runs", default=frozenset())
_awaited: ContextVar[Task | None] = ContextVar("awaited", default=None)


def current() -> Task:
    """The task that runs now."""
    task = asyncio.current_task()
    assert task is not None  # async code always runs in a task
    return task


@contextlib.contextmanager
def part_of(run: Task | None = None) -> Iterator[None]:
    """While the block runs, `run` waits for the current task, beside those that did before."""
    runs = _runs.set(_runs.get() if run is None else _runs.get() | {run})
    awaited = _awaited.set(current())
    try:
        yield
    finally:
        _awaited.reset(awaited)
        _runs.reset(runs)


def is_inside(run: Task) -> bool:
    """Whether the caller was begun inside `run`. That may wait for it, or not any more."""
    return run in _runs.get()


def is_awaited_by(run: Task) -> bool:
    """Whether the current task is one that `run` waits for: a wait for its end had none."""
    return is_inside(run) and _awaited.get() is current()
