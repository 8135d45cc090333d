"""Which runs the caller is part of: those wait for it, so it must not wait for their end.

A run is known by its task, the one in which `Session.run` was awaited. Knows no session.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

__all__ = ["Task", "current", "is_awaited_by", "is_inside", "part_of"]

Task = asyncio.Task[Any]

_runs: ContextVar[frozenset[Task]] = ContextVar("runs", default=frozenset())
_awaited: ContextVar[Task | None] = ContextVar("awaited", default=None)


def current() -> Task:
    """The task that runs now."""
    task = asyncio.current_task()
    assert task is not None  # async code always runs in a task
    return task


class part_of:  # noqa: N801 - used as a function
    """While the block runs, `run` waits for the current task, beside those that did before."""

    __slots__ = ("_awaited", "_run", "_runs")

    def __init__(self, run: Task | None = None) -> None:
        self._run = run

    def __enter__(self) -> None:
        before = _runs.get()
        self._runs = _runs.set(before if self._run is None else before | {self._run})
        self._awaited = _awaited.set(current())

    def __exit__(self, *_error: object) -> None:
        _awaited.reset(self._awaited)
        _runs.reset(self._runs)


def is_inside(run: Task) -> bool:
    """Whether the caller was started inside `run`, which may or may not still wait for it."""
    return run in _runs.get()


def is_awaited_by(run: Task) -> bool:
    """Whether the current task is one that `run` waits for: a wait for its end had none."""
    return is_inside(run) and _awaited.get() is current()
