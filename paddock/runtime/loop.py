"""The agent loop: ask the model, decide, run its calls, ask again.

It emits the typed events of `paddock.runtime.core.events` and returns how it ended. It does
not know sessions, files or sandboxes, and who shows the events. Every await may be
cancelled; then the model's stream and the tools have ended before the cancellation
passes on, and results that had come are recorded. Calls that stay open are closed by
the caller.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

from paddock._concurrency import finish
from paddock._watching import ModelWork, watched
from paddock.errors import ModelError
from paddock.runtime.core.approval import ApprovalInterrupt
from paddock.runtime.core.calls import PreparedCall, prepare_calls, reopened
from paddock.runtime.core.events import (
    MessageAdded,
    ModelFinished,
    ModelStarted,
    RulesChanged,
    RunStatus,
    TextAdded,
    ToolBlocked,
    TurnFinished,
)
from paddock.runtime.core.model import (
    ModelClient,
    ModelRequest,
    ModelResponse,
    ModelRetry,
    TextDelta,
    Usage,
    assistant_message,
    tool_message,
)
from paddock.runtime.core.text import clean_text
from paddock.runtime.execution import groups
from paddock.runtime.response_format import InvalidAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paddock.runtime.approvals.rules import Rules
    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.model import ModelEvent
    from paddock.runtime.execution import Execution
    from paddock.runtime.gate import ApprovalGate
    from paddock.runtime.response_format import AnswerFormat

__all__ = ["AgentLoop", "BudgetGate", "answer_of"]

REJECTED = "Command rejected by user. Awaiting new instructions."
SKIPPED = "Command skipped - user rejected previous command."

BudgetGate = Callable[[int], str | Awaitable[str | None] | None]
"""Given the input tokens of the last model call; a text is told to the agent as the user's."""


@dataclass(kw_only=True)
class AgentLoop:
    """One run's loop. `check` raises when the run is to be cancelled.

    `request` is what every model call has in common, its messages being those before
    the conversation. `rules` tells what holds for calls at that moment. `before_turn` is
    awaited before each model call. `meter` counts the model calls, and says when no more is
    to be spent. `phase` tells where the loop is, for whoever has to say where it was
    cancelled. `output` is what `answer_format` made of the final answer.
    """

    state: State
    client: ModelClient
    request: ModelRequest
    rules: Callable[[], Rules]
    out: Emitter
    check: Callable[[], None]
    before_turn: Callable[[], Awaitable[None]]
    gate: ApprovalGate
    execution: Execution
    meter: UsageMeter
    budget_gate: BudgetGate | None = None
    answer_format: AnswerFormat | None = None
    phase: str = "before model call"
    text: str = ""
    model_calls: int = 0
    output: Any = None
    _repairing: bool = False
    _held: Rules | None = None

    async def run(self, held: Rules, *, max_turns: int | None = None) -> RunStatus:
        """Go on until the model has answered, `max_turns` model calls were made, or a person
        has to decide. Calls that are open come first. `held` is recorded as what holds.

        Raises `ModelError` when the model cannot go on, and `BudgetExceeded`.
        """
        self._held = held
        calls = reopened(self.state.open_calls)
        turn = 0
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
            self.check()
            await self.before_turn()
            calls = await self._answer()
            if not calls and await self._accept_answer():
                await self._finish_turn()
                return "completed"

    @property
    def usage(self) -> Usage:
        """Of this run, with the agents that its tools ran."""
        return self.meter.usage

    @property
    def system_prompt(self) -> str:
        """What every request begins with."""
        return "".join(message["content"] for message in self.request.messages)

    async def ask_model(
        self, request: ModelRequest, take: Callable[[str], Awaitable[None]]
    ) -> tuple[ModelResponse, ModelFinished]:
        """One model call, counted. `take` gets the text as it comes; the event is the caller's."""
        self.meter.begin_turn()
        await self.out.emit(
            ModelStarted(model=request.model, context_size=self.state.estimate_tokens())
        )
        with watched(ModelWork()):
            response = await answer_of(self.client.stream(request), take, self.out.emit)
        self.meter.spend(response.usage)
        self.model_calls += 1
        finished = ModelFinished(
            model=request.model, usage=response.usage, call_index=self.model_calls
        )
        return response, finished

    async def _answer(self) -> list[PreparedCall]:
        """Ask for the next answer and put it into the history, whole or as far as it came."""
        self.phase = "during model response"
        request = replace(
            self.request,
            messages=[*self.request.messages, *self.state.messages],
            tools=(await self._rules_now()).registry.get_specs(),
        )
        pieces: list[str] = []

        async def take(text: str) -> None:
            pieces.append(clean_text(text))
            self.check()
            await self.out.emit(TextAdded(text=pieces[-1]))

        try:
            response, finished = await self.ask_model(request, take)
        except BaseException:
            if pieces:
                self.text = "".join(pieces)
                self.out.keep(MessageAdded(message=assistant_message(self.text)))
            raise
        self.text = clean_text(response.text)
        calls = prepare_calls(response.tool_calls, self.state.has_call)
        message = assistant_message(self.text, tuple(call.as_sent() for call in calls))
        for kept in [self.out.keep(finished), self.out.keep(MessageAdded(message=message))]:
            await self.out.show(kept)
        return calls

    async def _accept_answer(self) -> bool:
        """Whether the answer is what was asked for. If not, the model is told, once."""
        if self.answer_format is None:
            return True
        try:
            self.output = self.answer_format.read(self.text)
        except InvalidAnswer as error:
            if self._repairing:
                raise ModelError(f"the answer is not of the response format: {error}") from error
            self._repairing = True
            message = {"role": "user", "content": clean_text(error.request)}
            await self.out.emit(MessageAdded(message=message))
            return False
        return True

    async def _rules_now(self) -> Rules:
        """What holds now. A change is recorded before anything is done under it."""
        rules, before = self.rules(), self._held
        self._held = rules
        if before is not None and not rules.same_as(before):
            await self.out.emit(
                RulesChanged(profile=rules.profile, approvals=rules.approvals, terms=rules.terms)
            )
        return rules

    async def _decide(self, calls: Sequence[PreparedCall]) -> tuple[int, Rules]:
        """How many of `calls` may run, and under which rules: those that still hold when all
        is decided. A refusal stands."""
        while True:
            rules = await self._rules_now()
            allowed = await self.gate.allowed(calls, rules)
            if rules.same_as(self.rules()):
                return allowed, rules
            calls = calls[:allowed]

    async def _act(self, calls: Sequence[PreparedCall]) -> RunStatus | None:
        """Run the calls that may run; not None ends the run."""
        self.phase = "while waiting for approval"
        try:
            allowed, rules = await self._decide(calls)
        except ApprovalInterrupt as interrupt:
            rules = await self._rules_now()
            # Only now is it known what was wrong with these; history does not keep it.
            await self._run_calls([call for call in calls if call.problem], rules)
            await self.gate.leave_open(calls, rules, str(interrupt))
            return "interrupted"
        await self._run_calls(calls[:allowed], rules)
        if allowed == len(calls):
            return None
        refused = calls[allowed]
        await self.out.emit(
            ToolBlocked(
                call_id=refused.id,
                tool_name=refused.name,
                arguments=refused.arguments,
                content=REJECTED,
            )
        )
        for call in calls[allowed + 1 :]:
            await self.out.emit(MessageAdded(message=tool_message(call.id, SKIPPED)))
        await self._finish_turn()
        return "completed"

    async def _run_calls(self, calls: Sequence[PreparedCall], rules: Rules) -> None:
        if not calls:
            return
        results = []
        for group in groups(calls, rules.registry):
            self.phase = "before tool execution"
            await self.execution.announce(group)
            self.phase = "during tool execution"
            results += await self.execution.run(group, rules.registry)
        self.execution.judge(results)

    async def _finish_turn(self) -> None:
        await self.out.emit(
            TurnFinished(
                text=self.text,
                run=self.usage,
                total=self.state.total,
                context_size=self.state.estimate_tokens(),
            )
        )

    async def _ask_budget_gate(self) -> None:
        if self.budget_gate is None:
            return
        advice = self.budget_gate(self.state.last_input_tokens)
        if inspect.isawaitable(advice):
            advice = await advice
        if advice:
            message = {"role": "user", "content": clean_text(advice)}
            await self.out.emit(MessageAdded(message=message))


async def answer_of(
    stream: AsyncIterator[ModelEvent],
    take: Callable[[str], Awaitable[None]],
    report: Callable[[ModelRetry], Awaitable[None]],
) -> ModelResponse:
    """Read a model's stream to its end, or close it. `report` gets each retry."""
    response = None
    try:
        async for event in stream:
            match event:
                case TextDelta():
                    await take(event.text)
                case ModelRetry():
                    await report(event)
                case ModelResponse():
                    response = event
                case _:
                    assert_never(event)
    except BaseException:
        if isinstance(stream, AsyncGenerator):
            await finish(stream.aclose())
        raise
    if response is None:
        raise ModelError("the model's stream ended without an answer")
    return response
