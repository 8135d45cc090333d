"""Running a turn's calls, so that each gets exactly one result, whatever happens.

Calls that may change something run one after the other, in the order given; those between
them, which change nothing, at once.

Knows neither the model nor the approvers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from paddock._concurrency import Signal, finish
from paddock._logs import get_logger
from paddock.errors import ModelError, SandboxLost
from paddock.runtime.core.cancellation import CancellationToken
from paddock.runtime.core.content import bounded_images
from paddock.runtime.core.events import ToolFinished, ToolProgress, ToolStarted
from paddock.runtime.core.inside import part_of
from paddock.runtime.core.output import truncate_output
from paddock.runtime.core.text import clean_text
from paddock.runtime.core.tool import InvalidCall, RunAborted, ToolInvocation, ToolOutput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from paddock.runtime.core.calls import PreparedCall
    from paddock.runtime.core.context import RunContext
    from paddock.runtime.core.emitter import Emitter, Envelope
    from paddock.runtime.core.history import History
    from paddock.runtime.core.tool import ToolCatalog

__all__ = ["Execution", "groups"]

MAX_INVALID_TURNS = 8
"""Turns in a row in which no call could even be tried, before the run gives up."""

CANCEL_TIMEOUT = 10.0
"""Seconds that a cancelled tool may take to end: sandbox commands need less than one
(they are killed); a tool that swallows its cancellation is left behind and told."""

MAX_PROGRESS = 100
"""Reports of progress that wait to be shown, of all calls that run at once; older ones are
dropped: a tool may report faster than a terminal shows."""

MAX_PROGRESS_TEXT = 2000
"""Characters of one report: a line or two for a person."""

NOT_RESUMED = (
    "Unknown: an earlier run ended while this call ran, and the tool cannot continue it. It may "
    "have had its effect, wholly or in part."
)

_log = get_logger(__name__)


@dataclass(kw_only=True)
class Execution:
    """Of one run. `check` raises when the run is to be cancelled. What tools say is redacted
    before it is cut to what a model may read: half a secret could not be found."""

    history: History
    context: RunContext[Any]
    out: Emitter
    check: Callable[[], Awaitable[None]]
    _progress: list[ToolProgress] = field(default_factory=list)
    """Not a deque: an empty one takes 760 bytes of each run."""
    _news: Signal = field(default_factory=Signal)
    """Set when there is progress to show, or a call has ended."""
    _invalid_turns: int = 0
    _begun: dict[str, Envelope] = field(default_factory=dict)
    """The intents of calls that do not run yet, by their ids."""
    _errors: dict[str, Exception | None] = field(default_factory=dict)
    """What the calls of the turn have raised, by their ids."""

    async def announce(self, calls: Sequence[PreparedCall], registry: ToolCatalog) -> None:
        """Get the intents of `calls` to the disk: from then on they may have had an effect."""
        for call in calls:
            await self.check()
            self._begun[call.id] = self.out.keep(
                ToolStarted(
                    call_id=call.id,
                    tool_name=call.name,
                    arguments=call.arguments,
                    resumable=registry.is_resumable(call.name),
                )
            )
        await self.out.sync()  # before a sink sees them, which may end the process
        for call in calls:
            await self.out.show(self._begun[call.id])

    async def run(self, calls: Sequence[PreparedCall], registry: ToolCatalog) -> list[ToolFinished]:
        """Run `calls` at once by the tools of `registry`; their results are on the disk when
        this returns.

        Raises `SandboxLost`, and the cause of a `RunAborted`. Cancelled, the tools
        have ended before it passes on, and results that had come are recorded.
        """
        tasks = {asyncio.create_task(self._call(call, registry)): call for call in calls}
        try:
            results = await self._collect(tasks)
        except BaseException:
            await finish(self._end(tasks, registry))
            raise
        await self.out.sync()
        self._raise_if_lost(results)
        return results

    async def _collect(
        self, tasks: Mapping[asyncio.Task[ToolFinished], PreparedCall]
    ) -> list[ToolFinished]:
        results = []
        pending = dict(tasks)
        for task in tasks:
            task.add_done_callback(lambda _: self._news.set())
        while pending:
            await self._news.wait()
            self._news.clear()
            done = [task for task in pending if task.done()]
            while self._progress:
                await self.out.emit(self._progress.pop(0))
            for task in done:
                results.append(_result(task, pending.pop(task)))
                await self.out.emit(results[-1])
        return results

    def _context(self, call: PreparedCall) -> RunContext[Any]:
        """Return what the tool gets for `call`."""
        loop = asyncio.get_running_loop()

        def report(text: str) -> None:
            if len(text) > MAX_PROGRESS_TEXT:  # half a secret at the end could not be found
                text = self.out.redactor.beginning(text[:MAX_PROGRESS_TEXT])
            told = ToolProgress(call_id=call.id, tool_name=call.name, text=clean_text(text))
            self._progress.append(told)
            del self._progress[:-MAX_PROGRESS]
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
                loop.call_soon_threadsafe(self._news.set)

        return replace(
            self.context,
            call_id=call.id,
            tool_name=call.name,
            is_resumed=call.resumed,
            run_id=self.out.run_id,
            cancellation=CancellationToken(),
            on_progress=report,
        )

    async def _call(self, call: PreparedCall, registry: ToolCatalog) -> ToolFinished:
        started, begun = time.monotonic(), self._begun.pop(call.id)
        if call.problem is not None:
            problem = InvalidCall(call.problem)
            failure = {"error": "ArgumentError"}
            output = ToolOutput(
                content=call.problem, success=False, metadata=failure, error=problem
            )
        elif call.resumed and not registry.is_resumable(call.name):
            output = ToolOutput(content=NOT_RESUMED, success=False)
        else:
            invocation = ToolInvocation(
                call_id=call.id,
                tool_name=call.name,
                arguments=call.arguments,
                context=self._context(call),
            )
            with part_of(), self.out.around(begun):
                output = await registry.dispatch(invocation)
        self._errors[call.id] = output.error
        images, left_out = bounded_images(output.images)
        content = truncate_output(self.out.redactor.text(call.note + output.content))
        return ToolFinished(
            call_id=call.id,
            tool_name=call.name,
            content=content + left_out,
            images=images,
            success=output.success,
            duration=time.monotonic() - started,
            metadata=output.metadata,
        )

    async def _end(
        self, tasks: Mapping[asyncio.Task[ToolFinished], PreparedCall], registry: ToolCatalog
    ) -> None:
        """End the tools, and keep the results of those that were done already."""
        for task in tasks:
            task.cancel()
        # These bound their own ends: what an agent waits for are its tools, by this rule again.
        agents = {task for task, call in tasks.items() if registry.runs_agents(call.name)}
        if agents:
            await asyncio.wait(agents)
        done, left = await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
        for task in left:
            _log.warning("tool %s did not end when it was cancelled", tasks[task].name)
            task.add_done_callback(_retrieve)
        for task, call in tasks.items():
            if task in done and not task.cancelled() and self.history.open_call(call.id):
                self.out.keep(_result(task, call))

    def _raise_if_lost(self, results: Sequence[ToolFinished]) -> None:
        """Raise what no further call could mend."""
        for result in results:
            error = self._errors.get(result.call_id)
            if isinstance(error, RunAborted):
                raise error.cause
            if isinstance(error, SandboxLost):
                raise SandboxLost(result.content) from error

    def judge(self, results: Sequence[ToolFinished], registry: ToolCatalog) -> None:
        """Raise `ModelError` when for too long no call of a turn could be tried; `results` are
        a turn's."""
        errors = [self._errors.get(result.call_id) for result in results]
        self._errors.clear()
        self._invalid_turns += 1
        if not all(isinstance(error, InvalidCall) for error in errors):
            self._invalid_turns = 0
        if self._invalid_turns == MAX_INVALID_TURNS and not registry.is_patient:
            raise ModelError(f"no valid tool call in {MAX_INVALID_TURNS} turns")


def groups(calls: Sequence[PreparedCall], registry: ToolCatalog) -> list[list[PreparedCall]]:
    """`calls` in their order, those together that may run at once."""
    found: list[list[PreparedCall]] = []
    beside = False
    for call in calls:
        concurrent = call.problem is not None or registry.is_concurrent(call.name)
        if concurrent and beside:
            found[-1].append(call)
        else:
            found.append([call])
        beside = concurrent
    return found


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
