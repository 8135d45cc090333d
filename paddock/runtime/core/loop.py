"""The agent loop: ask the model, decide, run its calls, ask again.

It emits the typed events of `paddock.runtime.core.events` and returns how the run ended. It
does not know sessions, files, sandboxes or the sinks of events. Every await may be
cancelled; then the model's stream and the tools have ended before the cancellation
passes on, and results that had come are recorded. The caller closes the calls that stay open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.errors import ContextOverflow, ModelError, SessionError
from paddock.runtime.core import calling
from paddock.runtime.core.calls import PreparedCall, prepare_calls, reopened
from paddock.runtime.core.events import (
    AnswerCut,
    MessageAdded,
    RulesChanged,
    RunStatus,
    TextAdded,
    ToolBlocked,
    TurnFinished,
)
from paddock.runtime.core.execution import Execution, groups
from paddock.runtime.core.finish import is_cut, unusable, was_filtered
from paddock.runtime.core.model import ModelRetry, assistant_message, tool_message
from paddock.runtime.core.response_format import InvalidAnswer
from paddock.runtime.core.size import message_text
from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.core.caller import ModelCaller, TakeText
    from paddock.runtime.core.events import ModelFinished
    from paddock.runtime.core.model import ModelResponse
    from paddock.runtime.core.rules import Rules, Ruling
    from paddock.runtime.core.spec import LoopSpec

__all__ = ["AgentLoop"]

MAX_UNUSABLE = 2
"""Answers without anything to act on that are asked for again, one after the other: a model
that fails three times in a row at the same request will fail again."""

MAX_RULE_CHANGES = 100
"""Times that a turn's calls are decided anew because the rules changed meanwhile. More often they
change by themselves, each time that somebody looks."""

MAX_REFUSED_TURNS = 8
"""Turns in a row whose calls were all refused, before the agent has to wait for the next prompt
also where a refusal does not end the turn."""


@dataclass
class AgentLoop:
    """The loop of one run. `phase` says where it is, for reports of where it was cancelled.
    `text` is the last answer's, `output` the value of the final answer."""

    spec: LoopSpec
    phase: str = "before model call"
    text: str = ""
    output: Any = None
    _repairs: int = 0
    _refused_turns: int = 0
    _effective: Rules | None = None
    _unusable: int = 0
    _finished: ModelFinished = field(init=False)
    _caller: ModelCaller = field(init=False)
    _execution: Execution = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        self._caller = spec.make_caller()
        self._execution = Execution(
            history=spec.history, context=spec.context, out=spec.out, check=spec.check
        )

    async def run(self, effective: Rules, *, max_turns: int | None = None) -> RunStatus:
        """Go on until the model has answered, `max_turns` model calls were made, or a person
        has to decide. Calls that are open come first. `effective` are the rules that were
        recorded.

        Raises `ModelError` when the model cannot continue, and `BudgetExceeded`.
        """
        self._effective = effective
        calls = reopened(self.spec.history.open_calls)
        turn = 0
        if self.spec.history.has_answer and await self._accept_known_answer():
            await self._finish_turn()
            return "completed"
        while True:
            if calls:
                status = await self._act(calls)
                if status is not None:
                    return status
                await self._ask_budget_gate()
            if max_turns is not None and turn >= max_turns:
                await self._finish_turn()
                return "max_turns"
            turn += 1
            self.phase = "before model call"
            await self.spec.check()
            await self.spec.before_call()
            response = await self._answer()
            if response is None:
                continue
            calls = await self._record(response)
            if not calls and is_cut(response):
                return await self._end_cut()
            if not calls and await self._accept_answer():
                await self._finish_turn()
                return "completed"

    async def _answer(self) -> ModelResponse | None:
        """Ask for the next answer; None if it is unusable and is to be asked for again.

        What comes of an answer that breaks off is put into the history.
        """
        self.phase = "during model response"
        pieces: list[str] = []

        async def take(text: str) -> None:
            pieces.append(clean_text(text))
            await self.spec.check()
            await self.spec.out.emit(TextAdded(text=pieces[-1]))

        try:
            response, self._finished = await self._ask(take, pieces)
        except BaseException:
            if "".join(pieces).strip():
                self.text = "".join(pieces)
                self.spec.out.keep(MessageAdded(message=assistant_message(self.text)))
            raise
        filtered = was_filtered(response.finish_reason)
        problem = None if filtered else unusable(response)
        if not filtered and problem is None:
            self._unusable = 0
            return response
        await self.spec.out.emit(self._finished)
        self.spec.meter.check_prices()
        if problem is None:
            self.text = clean_text(response.text)
            told = f": {self.text}" if self.text.strip() else ""
            raise ModelError(f"the answer was filtered ({response.finish_reason}){told}")
        self._unusable += 1
        if self._unusable > MAX_UNUSABLE:
            raise ModelError(f"{problem}, {self._unusable} times in a row")
        await self.spec.out.emit(
            ModelRetry(reason=problem, wait=0.0, attempt=self._unusable, limit=MAX_UNUSABLE)
        )
        return None

    async def _record(self, response: ModelResponse) -> list[PreparedCall]:
        """Put an answer into the history, and return its calls."""
        self.text = clean_text(response.text)
        used = self.spec.history.has_call
        calls = prepare_calls(response.tool_calls, used, cut=is_cut(response))
        sent = tuple(call.as_sent() for call in calls)
        message = assistant_message(self.text, sent, response.opaque)
        out = self.spec.out
        for kept in [out.keep(self._finished), out.keep(MessageAdded(message=message))]:
            await out.show(kept)
        self.spec.meter.check_prices()
        return calls

    async def _ask(
        self, take: TakeText, pieces: Sequence[str]
    ) -> tuple[ModelResponse, ModelFinished]:
        """Make the model call. A history that is too long for it is shortened first, or when the
        service refuses it. `pieces` is what was taken of the answer."""
        compactor = self.spec.compactor
        request = self.spec.full_request(await self._rules_now())
        if compactor is not None and await compactor.make_room(self._caller, request):
            request = self.spec.full_request(await self._rules_now())
        while True:
            size = self.spec.history.estimate_tokens()
            try:
                return await self._caller.call(request, take, context_size=size)
            except ContextOverflow as error:
                if compactor is None or pieces:
                    raise
                await compactor.after_overflow(self._caller, request, error)
            request = self.spec.full_request(await self._rules_now())

    async def _end_cut(self) -> RunStatus:
        await self.spec.out.emit(
            AnswerCut(message="the answer was cut off at the limit of its length")
        )
        await self._finish_turn()
        return "truncated"

    async def _accept_known_answer(self) -> bool:
        """Show the answer of a run whose process died, or that failed, before it had ended."""
        self.text = message_text(self.spec.history.messages[-1])
        await self.spec.out.emit(TextAdded(text=self.text))
        return await self._accept_answer()

    async def _accept_answer(self) -> bool:
        """Whether the answer has the format asked for. If not, tell the model."""
        if self.spec.answer_format is None:
            return True
        try:
            self.output = self.spec.answer_format.read(self.text)
        except InvalidAnswer as error:
            if self._repairs >= self.spec.answer_repairs:
                raise ModelError(f"the answer is not of the response format: {error}") from error
            self._repairs += 1
            message = {"role": "user", "content": clean_text(error.request)}
            await self.spec.out.emit(MessageAdded(message=message))
            return False
        return True

    async def _rules_now(self) -> Rules:
        """What holds now. A change is recorded before anything is done under it."""
        rules, before = self.spec.rules(), self._effective
        self._effective = rules
        if before is not None and not rules.same_as(before):
            await self.spec.out.emit(
                RulesChanged(
                    profile=rules.profile,
                    approvals=rules.approvals,
                    policy_digest=rules.policy_digest,
                )
            )
        return rules

    async def _decide(self, calls: Sequence[PreparedCall]) -> tuple[Ruling, Rules]:
        """Which of `calls` may run, and under which rules: those that still hold when all is
        decided."""
        for _ in range(MAX_RULE_CHANGES):
            rules = await self._rules_now()
            ruling = await self.spec.gate.decide(calls, rules)
            if rules.same_as(self.spec.rules()):
                return ruling, rules
        raise SessionError(
            f"the rules for tool calls changed {MAX_RULE_CHANGES} times while a call was decided"
        )

    async def _act(self, calls: Sequence[PreparedCall]) -> RunStatus | None:
        """Run the calls that may run; not None ends the run."""
        self.phase = "while waiting for approval"
        ruling, rules = await self._decide(calls)
        if ruling.waits:
            # Only now is it known what was wrong with these; history does not keep it.
            await self._run_calls([call for call in calls if call.problem], rules)
            return "interrupted"
        await self._run_calls(ruling.allowed, rules)
        for call, told in ruling.refused:
            await self.spec.out.emit(
                ToolBlocked(
                    call_id=call.id,
                    tool_name=call.name,
                    arguments=call.arguments,
                    content=told,
                )
            )
        for call, told in ruling.skipped:
            await self.spec.out.emit(MessageAdded(message=tool_message(call.id, told)))
        self._refused_turns = 0 if ruling.allowed else self._refused_turns + 1
        is_bounded = not rules.registry.is_patient and self._refused_turns >= MAX_REFUSED_TURNS
        if not ruling.ends_turn and not is_bounded:
            return None
        await self._finish_turn()
        return "completed"

    async def _run_calls(self, calls: Sequence[PreparedCall], rules: Rules) -> None:
        if not calls:
            return
        results = []
        for group in groups(calls, rules.registry):
            self.phase = "before tool execution"
            await self._execution.announce(group, rules.registry)
            self.phase = "during tool execution"
            results += await self._execution.run(group, rules.registry)
        self._execution.judge(results, rules.registry)

    async def _finish_turn(self) -> None:
        await self.spec.out.emit(
            TurnFinished(
                text=self.text,
                run=self.spec.meter.usage,
                total=self.spec.history.total,
                context_size=self.spec.history.estimate_tokens(),
            )
        )

    async def _ask_budget_gate(self) -> None:
        if self.spec.budget_gate is None:
            return
        advice = await calling.call(self.spec.budget_gate, self.spec.history.last_input_tokens)
        if advice:
            message = {"role": "user", "content": clean_text(advice)}
            await self.spec.out.emit(MessageAdded(message=message))
