"""An active run or compaction, and waiting for its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._concurrency import Signal
from paddock.runtime.core.inside import Task, current, is_awaited_by

if TYPE_CHECKING:
    from collections.abc import Generator

    from paddock.runtime.core.cancellation import CancellationToken
    from paddock.runtime.core.emitter import Emitter

__all__ = ["Ending", "Undertaking"]


@dataclass(kw_only=True)
class Undertaking:
    """A run or a compaction: it can be cancelled by `token`, and waited for; its events go `out`.

    It is known by its `task`. One that is `closing` is no longer cancelled.
    """

    token: CancellationToken
    out: Emitter
    ended: Signal = field(default_factory=Signal)
    closing: bool = False
    task: Task = field(default_factory=current)


class Ending:
    """Await it to wait until `work` has ended, or drop it.

    A part of `work` that awaits it is cancelled; once `work` is closing, it does not wait.
    """

    def __init__(self, work: Undertaking | None) -> None:
        self._work = work

    def __await__(self) -> Generator[object, None, None]:
        work = self._work
        if work is not None and not (work.closing and is_awaited_by(work.task)):
            yield from work.ended.wait().__await__()
