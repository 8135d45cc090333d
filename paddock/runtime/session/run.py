"""One run of a session: the frame around the loop.

It begins the run, stops it when it is cancelled or its budget is used up, and ends it so that
the history is valid, whatever happened in between. Knows no files and no sandbox.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import (
    BudgetExceeded,
    ModelError,
    PaddockError,
    SessionError,
    TraceWriteError,
)
from paddock.runtime.approvals.responders import decision_of
from paddock.runtime.conversation.results import RunResult, run_usage
from paddock.runtime.conversation.run_state import RunState
from paddock.runtime.core.ending import Undertaking
from paddock.runtime.core.events import (
    ApprovalResolved,
    Event,
    MessageAdded,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStatus,
)
from paddock.runtime.core.inside import part_of
from paddock.runtime.core.loop import AgentLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.approvals.run_approvals import RunApprovals
    from paddock.runtime.conversation.journal import Journal
    from paddock.runtime.conversation.results import AgentEvents
    from paddock.runtime.core.approval import Decision
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.cancellation import CancelScope
    from paddock.runtime.core.content import PromptContent
    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.core.rules import Rules
    from paddock.runtime.core.spec import LoopSpec

__all__ = ["LEFT", "NOT_APPROVED", "Run"]

SHOW_TIMEOUT = 5.0
"""Seconds that a callback may take with the last events of a run that ended early."""

LEFT = (
    "Not resumed: its run ended while it ran, and the next prompt came. It may have had its "
    "effect, wholly or in part."
)
STOPPED = "Cancelled while it ran. It may have had its effect, wholly or in part."
NOT_RUN = "Not run: the run ended before this call began."
NOT_APPROVED = "Not run: it was not approved before the next prompt came."
CUT_SHORT = "Your answer was cut short. Go on."

_UNFINISHED = frozenset({"error", "cancelled", "budget", "max_turns", "interrupted", "truncated"})
"""How a run may have ended that can be resumed although no call waits for an approval."""

_log = get_logger(__name__)


@dataclass(kw_only=True)
class Run(Undertaking):
    """What one run works with. `prepare` is awaited under `scope`, so it may be cancelled too.

    `rules` returns the rules for tool calls at that moment.
    """

    journal: Journal
    shown: AgentEvents
    scope: CancelScope
    prepare: Callable[[], Awaitable[LoopSpec]]
    meter: UsageMeter
    max_turns: int | None
    rules: Callable[[], Rules]
    config: AgentConfig
    approvals: RunApprovals
    task_id: str
    _resumed: bool = False
    _left_calls: bool = False
    """Whether the prompt came instead of calls being resumed."""
    _loop: AgentLoop | None = None
    _effective: Rules | None = None
    """The rules that were recorded at the run's start."""
    _begun: list[Envelope] = field(default_factory=list)
    """The events of the start, which are shown when there is a loop."""

    def _begin(self, prompt: str, content: PromptContent) -> None:
        """Record the run's start; what an earlier one left open gets results."""
        pending = self.journal.state.pending_approvals
        self.approvals.asked.update(item.approval_id for item in pending)
        self._left_calls = any(call.started for call in self.journal.state.open_calls)
        for event in self.journal.closing_events(started=LEFT, waiting=NOT_APPROVED):
            self.out.keep(event)
        self._effective = self._record_start(prompt)
        self._say(content)

    def _say(self, content: PromptContent) -> None:
        message = {"role": "user", "content": content}
        self._begun.append(self.out.keep(MessageAdded(message=message)))

    async def _decided(self, decisions: Mapping[str, bool | Decision]) -> list[ApprovalResolved]:
        """`decisions` about calls that wait, as events.

        Raises `SessionError` for an invalid run, or if there is nothing to continue.
        """
        state = self.journal.state
        unanswered = bool(state.messages or state.unsaid) and state.status in _UNFINISHED
        if not state.pending_approvals and (decisions or not unanswered):
            raise SessionError("no call of this session waits for an approval")
        given = {call_id: decision_of(answer) for call_id, answer in decisions.items()}
        return await self.approvals.check(state.pending_approvals, given, self.rules())

    def _take_up(self, decided: Sequence[ApprovalResolved]) -> None:
        """Record the start of a run that continues one that waited or failed."""
        self._resumed = True
        state = self.journal.state
        unsaid = state.unsaid
        self._effective = self._record_start("")
        self._begun += map(self.out.keep, decided)
        if unsaid:
            self._say(unsaid)
        elif state.messages[-1]["role"] == "assistant" and not (
            state.open_calls or state.has_answer
        ):
            self._say(CUT_SHORT)

    async def execute(self, prompt: str, content: PromptContent) -> RunResult:
        """From the prompt to the result. The journal is open. See `Session.run`.

        `content` is the prompt as the model reads it.
        """
        self._begin(prompt, content)
        with self.meter.running():
            return await self._execute()

    async def resume(self, decisions: Mapping[str, bool | Decision]) -> RunResult:
        """From the decisions to the result. The journal is open. See `Session.resume`."""
        decided = await self._decided(decisions)
        with self.meter.running():
            return await self._execute(decided)

    async def _execute(self, decided: Sequence[ApprovalResolved] | None = None) -> RunResult:
        status: RunStatus = "cancelled"
        last: RunFailed | RunCancelled | None = None
        try:
            async with self.scope:
                status = await self._work(decided)
        except asyncio.CancelledError as cancelled:
            await self._close_cancelled(cancelled)
            raise
        except TraceWriteError as error:  # nothing more can be recorded
            failed = self.out.envelope(RunFailed(message=str(error)))
            await finish(self._show_last(failed))
            raise
        except BudgetExceeded as error:
            status, last = "budget", RunFailed(message=str(error))
        except ModelError as error:
            status, last = "error", RunFailed(message=_told(error))
        except BaseException as error:
            await finish(self._close("error", RunFailed(message=_told(error))))
            raise
        if self.scope.cancelled:
            last = self._cancelled()
        status = await finish(self._close(status, last))
        return self._result(status, last)

    async def _work(self, decided: Sequence[ApprovalResolved] | None) -> RunStatus:
        async with self.meter.in_time():
            self._loop = AgentLoop(await self.prepare())
            if decided is not None:  # only now: without a loop the calls keep waiting
                await self.approvals.answer(self.journal.state.pending_approvals, decided)
                self._take_up(decided)
            await self._withdraw()  # what waited when another prompt came
            assert self._effective is not None, "no start was recorded"
            for envelope in self._begun:
                await self.out.show(envelope)
            return await self._loop.run(self._effective, max_turns=self.max_turns)

    def _record_start(self, prompt: str) -> Rules:
        state, rules = self.journal.state, self.rules()
        self.out.run_id = state.runs_started + 1
        started = RunStarted(
            session_id=state.session_id or "",
            run_id=self.out.run_id,
            prompt=prompt,
            profile=rules.profile,
            approvals=rules.approvals,
            policy_digest=rules.policy_digest,
            model=self.config.model,
            provider=self.config.provider,
            backend=rules.backend,
            resumed=self._resumed,
            task_id=self.task_id,
        )
        self._begun.append(self.out.keep(started))
        return rules

    def _cancelled(self) -> RunCancelled:
        phase = "before model call" if self._loop is None else self._loop.phase
        return RunCancelled(message=f"Cancelled {phase}", reason=self.scope.reason or "task")

    async def _close_cancelled(self, cancelled: asyncio.CancelledError) -> None:
        try:
            await finish(self._close("cancelled", self._cancelled()))
        except Exception as error:  # of the trace, or of a callback that is shown the end
            raise cancelled from error

    async def _close(self, status: RunStatus, last: Event | None) -> RunStatus:
        """Record the end at once, get it to the disk, then show it. Returns what it was.

        While calls wait for approval none of their turn has run, so they can still be
        decided, whatever ended the run. See `SessionSettings.keeps_open` for other calls.
        """
        self.closing = True
        state = self.journal.state
        if self._effective is None:
            return "interrupted"
        keeps_open = self.journal.keeps_open and status != "budget"
        events = self.journal.lost(started=STOPPED) if keeps_open else []
        if state.pending_approvals or (keeps_open and len(state.open_calls) > len(events)):
            status = "interrupted"
        elif not keeps_open:
            events = self.journal.closing_events(started=STOPPED, waiting=NOT_RUN)
        if last is not None:
            events.append(last)
        kept = [self.out.keep(event) for event in events]
        finished = self.out.keep(
            RunFinished(
                run_id=state.runs_started,
                status=status,
                run=self.meter.usage,
                total=state.total,
                run_count=state.run_count,
            )
        )
        await self.out.sync()
        await self._withdraw()
        await self._show_last(*kept, finished)
        return status

    async def _withdraw(self) -> None:
        """Withdraw the requests that no call of this session waits for."""
        state = self.journal.state
        waiting = {item.approval_id for item in state.pending_approvals}
        if state.open_calls:
            waiting |= self.approvals.below
        nobody_waits = self.out.origin.parent_call_id is None and not state.open_calls
        journal = self.journal
        left = journal.found_dead or journal.keeps_open or self._left_calls
        try:
            await self.approvals.withdraw(but=waiting, left=left and nobody_waits)
        except SessionError:
            _log.exception("approvals of an ended run could not be withdrawn")

    async def _show_last(self, *envelopes: Envelope) -> None:
        self.closing = True
        try:
            with part_of():  # instead of the run's own task
                async with asyncio.timeout(SHOW_TIMEOUT):
                    for envelope in envelopes:
                        await self.out.show(envelope)
        except TimeoutError:
            _log.warning("the event callback took too long; the last events were not shown")

    def _result(self, status: RunStatus, last: RunFailed | RunCancelled | None) -> RunResult:
        state = self.journal.state
        result = RunResult(
            text="" if self._loop is None else self._loop.text,
            output=None if self._loop is None else self._loop.output,
            events=self.shown.shown,
            status=status,
            usage=run_usage(self.meter.usage, state.total, state.estimate_tokens()),
        )
        match last:
            case RunCancelled():
                result.reason = last.reason
            case RunFailed():
                result.reason = self.out.redactor.text(last.message)
        if status == "interrupted":
            result.interruptions = state.pending_approvals
        if self._loop is not None and (
            status == "interrupted" or (self._resumed and status != "completed")
        ):
            result.state = RunState.of(state, self._loop.spec.system_prompt)
        return result


def _told(error: BaseException) -> str:
    """Return the text about `error` for the run's user."""
    return str(error) if isinstance(error, PaddockError) else f"{type(error).__name__}: {error}"
