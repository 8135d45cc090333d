"""The agent loop: ask the model, decide, run its calls at once, ask again.

It emits the typed events of `paddock.runtime.events` and returns how it ended. It does
not know sessions, files or sandboxes, and who shows the events. Every await may be
cancelled; then the model's stream and the tools have ended before the cancellation
passes on, and results that had come are recorded. Calls that stay open are closed by
the caller.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, assert_never

from paddock._concurrency import finish
from paddock.errors import ModelError, SandboxLost
from paddock.runtime.approvals import ApprovalCallback, ApprovalInterrupt, ask, call_digest
from paddock.runtime.calls import PreparedCall, prepare_calls
from paddock.runtime.events import (
    ApprovalDecided,
    ApprovalPending,
    Event,
    MessageAdded,
    ModelFinished,
    ModelStarted,
    RunStatus,
    TextAdded,
    ToolBlocked,
    ToolFinished,
    ToolStarted,
    TurnFinished,
)
from paddock.runtime.models.base import (
    ModelClient,
    ModelRequest,
    ModelResponse,
    TextDelta,
    Usage,
)
from paddock.runtime.records import assistant_message, tool_message
from paddock.runtime.text import clean_text
from paddock.runtime.tools.base import ToolContext, ToolInvocation, ToolOutput
from paddock.runtime.tools.output import truncate_output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from paddock.runtime.models.base import ModelEvent
    from paddock.runtime.state import State
    from paddock.runtime.tools.registry import ToolRegistry

__all__ = ["AgentLoop", "BudgetGate", "Outlet", "RunContext", "answer_of"]

MAX_INVALID_TURNS = 8
"""Turns in a row in which no call could even be tried, before the run gives up."""

TOOL_PATIENCE = 10.0
"""Seconds that a cancelled tool may take to end: sandbox commands need less than one
(they are killed); a tool that swallows its cancellation is left behind and told."""

REJECTED = "Command rejected by user. Awaiting new instructions."
SKIPPED = "Command skipped - user rejected previous command."
NOBODY_TO_ASK = "this call needs approval, and there is nobody to ask"

_INVALID = frozenset({"UnknownTool", "ToolDisabled", "ArgumentError"})

_log = logging.getLogger(__name__)

BudgetGate = Callable[[int], str | Awaitable[str | None] | None]
"""Given the input tokens of the last model call; a text is told to the agent as the user's."""


class Outlet(Protocol):
    """Where events go. `record` keeps one, `show` shows it; `emit` does both, in this order."""

    def record(self, event: Event) -> None: ...

    async def show(self, event: Event) -> None: ...

    async def emit(self, event: Event) -> None: ...

    async def sync(self) -> None:
        """Return when what was recorded would survive the machine."""
        ...


class RunContext(ToolContext, Protocol):
    """What tools get, and the error that kept the sandbox from being made."""

    @property
    def failure(self) -> Exception | None: ...


@dataclass(kw_only=True)
class AgentLoop:
    """One run's loop. `check` raises when the run is to be cancelled.

    `request` is what every model call has in common, its messages being those before
    the conversation. `before_turn` is awaited before each model call. `phase` tells
    where the loop is, for whoever has to say where it was cancelled.
    """

    state: State
    client: ModelClient
    request: ModelRequest
    registry: ToolRegistry
    context: RunContext
    out: Outlet
    check: Callable[[], None]
    before_turn: Callable[[], Awaitable[None]]
    approval_callback: ApprovalCallback | None = None
    auto_approve: bool = True
    budget_gate: BudgetGate | None = None
    phase: str = "before model call"
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    model_calls: int = 0
    _invalid_turns: int = 0

    async def run(self, *, max_turns: int | None = None) -> RunStatus:
        """Go on until the model has answered, `max_turns` model calls were made, or a person
        has to decide. Raises `ModelError` when the model cannot go on."""
        turn = 0
        while max_turns is None or turn < max_turns:
            turn += 1
            self.phase = "before model call"
            self.check()
            await self.before_turn()
            calls = await self._answer()
            if not calls:
                await self._finish_turn()
                return "completed"
            status = await self._act(calls)
            if status is not None:
                return status
            await self._ask_budget_gate()
        await self._finish_turn()
        return "max_turns"

    async def ask_model(
        self, request: ModelRequest, take: Callable[[str], Awaitable[None]]
    ) -> tuple[ModelResponse, ModelFinished]:
        """One model call, counted. `take` gets the text as it comes; the event is the caller's."""
        await self.out.emit(
            ModelStarted(model=request.model, context_size=self.state.estimate_tokens())
        )
        response = await answer_of(self.client.stream(request), take)
        self.usage += response.usage
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
            tools=self.registry.get_specs(),
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
                self.out.record(MessageAdded(message=assistant_message(self.text)))
            raise
        self.text = clean_text(response.text)
        calls = prepare_calls(response.tool_calls, self.state.has_call)
        message = assistant_message(self.text, tuple(call.as_sent() for call in calls))
        self.out.record(finished)
        self.out.record(MessageAdded(message=message))
        await self.out.show(finished)
        return calls

    async def _act(self, calls: Sequence[PreparedCall]) -> RunStatus | None:
        """Run the calls that may run; not None ends the run."""
        self.phase = "while waiting for approval"
        try:
            allowed = await self._approve(calls)
        except ApprovalInterrupt:
            return "interrupted"
        await self._run_calls(calls[:allowed])
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

    async def _approve(self, calls: Sequence[PreparedCall]) -> int:
        """Ask for each call that needs it, in order, before any runs; how many come before
        the first that was refused."""
        for number, call in enumerate(calls):
            if call.problem or not self.registry.requires_approval(call.name, call.arguments):
                continue
            if self.approval_callback is None and self.auto_approve:
                continue
            self.check()
            if not await self._approved(call):
                return number
        return len(calls)

    async def _approved(self, call: PreparedCall) -> bool:
        try:
            if self.approval_callback is None:
                raise ApprovalInterrupt(NOBODY_TO_ASK)
            decision = await ask(self.approval_callback, call.name, call.arguments)
        except ApprovalInterrupt as interrupt:
            await self.out.emit(
                ApprovalPending(
                    call_id=call.id,
                    tool_name=call.name,
                    arguments=call.arguments,
                    note=str(interrupt),
                )
            )
            raise
        await self.out.emit(
            ApprovalDecided(
                call_id=call.id,
                tool_name=call.name,
                approved=decision.approved,
                digest=call_digest(call.name, call.arguments),
                note=decision.note,
            )
        )
        return decision.approved

    async def _run_calls(self, calls: Sequence[PreparedCall]) -> None:
        """Run `calls` at once. Their intents are on the disk before, their results after."""
        if not calls:
            return
        self.phase = "before tool execution"
        for call in calls:
            self.check()
            await self.out.emit(
                ToolStarted(call_id=call.id, tool_name=call.name, arguments=call.arguments)
            )
        await self.out.sync()
        self.phase = "during tool execution"
        tasks = {asyncio.create_task(self._call(call)): call for call in calls}
        try:
            results = await self._collect(tasks)
        except BaseException:
            await finish(self._end(tasks))
            raise
        await self.out.sync()
        self._judge(results)

    async def _collect(
        self, tasks: Mapping[asyncio.Task[ToolFinished], PreparedCall]
    ) -> list[ToolFinished]:
        results = []
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task, call in tasks.items():
                if task in done:
                    results.append(_result(task, call))
                    await self.out.emit(results[-1])
        return results

    async def _call(self, call: PreparedCall) -> ToolFinished:
        started = time.monotonic()
        if call.problem is not None:
            failure = {"error": "ArgumentError"}
            output = ToolOutput(content=call.problem, success=False, metadata=failure)
        else:
            output = await self.registry.dispatch(
                ToolInvocation(
                    call_id=call.id,
                    tool_name=call.name,
                    arguments=call.arguments,
                    context=self.context,
                )
            )
        return ToolFinished(
            call_id=call.id,
            tool_name=call.name,
            content=truncate_output(output.content),
            success=output.success,
            duration=time.monotonic() - started,
            metadata=output.metadata,
        )

    async def _end(self, tasks: Mapping[asyncio.Task[ToolFinished], PreparedCall]) -> None:
        """End the tools, and keep the results of those that were done already."""
        for task in tasks:
            task.cancel()
        done, left = await asyncio.wait(tasks, timeout=TOOL_PATIENCE)
        for task in left:
            _log.warning("tool %s did not end when it was cancelled", tasks[task].name)
            task.add_done_callback(_retrieve)
        still_open = {call.id for call in self.state.open_calls}
        for task, call in tasks.items():
            if task in done and not task.cancelled() and call.id in still_open:
                self.out.record(_result(task, call))

    def _judge(self, results: Sequence[ToolFinished]) -> None:
        """Raise what no further call could mend."""
        if self.context.failure is not None:
            raise self.context.failure
        for result in results:
            if result.metadata.get("error") == SandboxLost.__name__:
                raise SandboxLost(result.content)
        if all(result.metadata.get("error") in _INVALID for result in results):
            self._invalid_turns += 1
        else:
            self._invalid_turns = 0
        if self._invalid_turns == MAX_INVALID_TURNS:
            raise ModelError(f"no valid tool call in {MAX_INVALID_TURNS} turns")

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
    stream: AsyncIterator[ModelEvent], take: Callable[[str], Awaitable[None]]
) -> ModelResponse:
    """Read a model's stream to its end, or close it."""
    response = None
    try:
        async for event in stream:
            match event:
                case TextDelta():
                    await take(event.text)
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


def _result(task: asyncio.Task[ToolFinished], call: PreparedCall) -> ToolFinished:
    """The result of a task that is done, whatever came of it."""
    if task.cancelled():
        problem = "it was cancelled from inside"
    elif (error := task.exception()) is not None:
        _log.error("tool %s broke its contract", call.name, exc_info=error)
        problem = f"{type(error).__name__}: {error}"
    else:
        return task.result()
    return ToolFinished(
        call_id=call.id,
        tool_name=call.name,
        content=f"Tool '{call.name}' failed: {problem}",
        success=False,
        duration=0.0,
    )


def _retrieve(task: asyncio.Task[ToolFinished]) -> None:
    if not task.cancelled():
        task.exception()
