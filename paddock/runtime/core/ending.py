"""What a session does that may take a while, and what its end is to those who wait for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock.runtime.core.inside import Task, current, is_awaited_by

if TYPE_CHECKING:
    from collections.abc import Generator

    from paddock.runtime.core.cancellation import CancellationToken
    from paddock.runtime.core.emitter import Emitter

__all__ = ["Ending", "Undertaking"]


@dataclass(kw_only=True)
class Undertaking:
    """A run or a compaction: it can be cancelled by `token`, and waited for; its events go `out`.

    It is known by its `task`. One that is `closing` is not cancelled any more.
    """

    token: CancellationToken
    out: Emitter
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False
    task: Task = field(default_factory=current)


class Ending:
    """May be awaited, for the end of what was cancelled, or not.

    Who is part of that is cancelled by it, or has nothing to wait for.
    """

    def __init__(self, work: Undertaking | None) -> None:
        self._work = work

    def __await__(self) -> Generator[object, None, None]:
        work = self._work
        if work is not None and not (work.closing and is_awaited_by(work.task)):
            yield from work.ended.wait().__await__()
