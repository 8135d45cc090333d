"""A compaction that somebody asks for: the frame around it, as `run` is one around the loop.

It is noted in the directory, can be cancelled, and counts for the session's budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.errors import SessionError
from paddock.runtime.conversation.directory import noted
from paddock.runtime.conversation.results import CompactResult
from paddock.runtime.core.ending import Undertaking
from paddock.runtime.session.run import LEFT, NOT_APPROVED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.conversation.compaction import HistoryCompactor
    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.conversation.journal import Journal
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.cancellation import CancelScope
    from paddock.runtime.core.events import CompactionFinished, CompactionTrigger
    from paddock.runtime.core.spec import LoopSpec

__all__ = ["Compaction"]


@dataclass(kw_only=True)
class Compaction(Undertaking):
    """What one compaction works with."""

    journal: Journal
    directory: SessionDirectory | None
    scope: CancelScope
    prepare: Callable[[], Awaitable[LoopSpec]]
    meter: UsageMeter
    compactor: HistoryCompactor

    async def execute(self, instructions: str, trigger: CompactionTrigger) -> CompactResult:
        """From the wish to the summary. See `Session.compact`."""
        async with self.journal.holding(self.out, self.token.cancel):
            self._check()
            with noted(self.directory, self.journal.state):
                async with self.scope:
                    done = await self._compact(instructions, trigger)
        if self.scope.cancelled:
            raise SessionError(f"the compaction was cancelled: {self.scope.reason}")
        return CompactResult(
            summary=done.summary,
            tokens_before=done.tokens_before,
            tokens_after=done.tokens_after,
            trigger=done.trigger,
        )

    def _check(self) -> None:
        state = self.journal.state
        if not state.messages:
            raise SessionError("there is nothing to compact")
        if state.pending_approvals:
            raise SessionError("calls wait for an approval: decide, or prompt, before this")

    async def _compact(self, instructions: str, trigger: CompactionTrigger) -> CompactionFinished:
        for event in self.journal.closing_events(started=LEFT, waiting=NOT_APPROVED):
            self.out.keep(event)
        with self.meter.running():
            async with self.meter.in_time():
                done = await self._summarise(await self.prepare(), instructions, trigger)
        await self.out.sync()
        return done

    async def _summarise(
        self, spec: LoopSpec, instructions: str, trigger: CompactionTrigger
    ) -> CompactionFinished:
        request = spec.full_request(spec.rules())
        return await self.compactor.compact(spec.make_caller(), request, instructions, trigger)
