"""A conversation by lines: read one, have it dealt with, tell what went wrong, read the next.

Ctrl-C ends what is going on, not the conversation. Knows no command and no session.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from paddock._concurrency import cancel
from paddock.cli.errors import is_expected, report
from paddock.redaction import NOTHING_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from paddock.cli.lines import LineReader
    from paddock.redaction import Redactor

__all__ = ["Repl"]

LEAVING = frozenset({"exit", "quit", "/exit", "/quit"})


class Repl:
    """Has `handle` deal with each line of `reader`, one after the other.

    `redactor` gives what knows the secrets that no error may tell. `failed` says afterwards
    whether any line could not be dealt with.
    """

    def __init__(
        self,
        reader: LineReader,
        handle: Callable[[str], Coroutine[None, None, None]],
        *,
        redactor: Callable[[], Redactor] = lambda: NOTHING_SECRET,
    ) -> None:
        self._reader = reader
        self._handle = handle
        self._redactor = redactor
        self._work: asyncio.Task[None] | None = None
        self._interrupted = False
        self.failed = False

    async def run(self) -> None:
        """Until the reader has no more lines, or one of them leaves."""
        while (line := await self._next_line()) is not None:
            if line:
                await self._deal_with(line)

    def interrupt(self) -> bool:
        """Cancel what is going on. False if nothing is, or if it was asked for before."""
        if self._work is None or self._interrupted:
            return False
        self._interrupted = True
        self._work.cancel()
        print("paddock: cancelling (Ctrl-C again leaves)", file=sys.stderr, flush=True)
        return True

    async def _next_line(self) -> str | None:
        try:
            line = (await self._reader.read()).strip()
        except EOFError:
            return None
        return None if line in LEAVING else line

    async def _deal_with(self, line: str) -> None:
        self._interrupted = False
        work = self._work = asyncio.create_task(self._handle(line))
        try:
            await asyncio.wait([work])
        finally:
            self._work = None
            await cancel(work)  # or it has ended
        if work.cancelled():
            print("paddock: cancelled", file=sys.stderr, flush=True)
        elif (error := work.exception()) is not None:
            self.failed = True
            if not (isinstance(error, Exception) and is_expected(error)):
                raise error
            report(error, self._redactor())
