"""The core's events of one run as the dictionaries that the runtime's streams consist of."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import (
    ApprovalRequested,
    ApprovalResolved,
    CompactionFinished,
    CompactionStarted,
    ModelStarted,
    ReasoningAdded,
    TextAdded,
    ToolBlocked,
    ToolFinished,
    ToolStarted,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping

    from paddock.runtime.core.approval import Decision
    from paddock.runtime.core.emitter import Envelope, Origin
    from paddock.runtime.orchestration.run import TeamRun
    from paddock.runtime.orchestration.stream import WireEvent

__all__ = ["Wire", "approval_decision", "approval_required"]


class Wire(EventSink):
    """Says in the stream of `run` what the models and tools of all its agents do."""

    def __init__(self, run: TeamRun) -> None:
        self._run = run
        self._stepped: set[Origin] = set()
        self._compacting: set[Origin] = set()
        self._arguments: dict[str, dict[str, Any]] = {}
        """Of the calls that the stream has, and not their results."""
        self._approvals: dict[str, str] = {}
        self._answered: dict[str, ApprovalResolved] = {}
        """What was answered while no process worked on the run, and the stream does not have."""
        self._decisions: dict[str, Decision] = {}
        self._lost: list[Envelope] = []
        """The results of calls whose process died, which are kept and never shown."""

    def keep(self, envelope: Envelope) -> None:
        event = envelope.event
        if isinstance(event, ToolFinished) and "arguments" in event.metadata:
            self._lost.append(envelope)

    async def show(self, envelope: Envelope) -> None:
        lost, self._lost = self._lost, []
        for each in [*(each for each in lost if each is not envelope), envelope]:
            for event in self._events(each):
                await self._run.emit(event)

    def _events(self, envelope: Envelope) -> Iterator[WireEvent]:
        match envelope.event:
            case CompactionStarted():
                self._compacting.add(envelope.origin)
            case CompactionFinished():
                self._compacting.discard(envelope.origin)
            case ModelStarted():
                yield from self._step(envelope.origin)
            case TextAdded(text=text):
                yield {"type": "text", "text": text}
            case ReasoningAdded(text=text) if envelope.origin not in self._compacting:
                yield {"type": "reasoning", "text": text}
            case ApprovalRequested() | ApprovalResolved():
                yield from self._approval(envelope)
            case ToolStarted() | ToolFinished() | ToolBlocked():
                yield from self._tool(envelope)

    def _step(self, origin: Origin) -> Iterator[WireEvent]:
        """A model call begins; those that make room in a history answer nothing."""
        if origin in self._compacting:
            return
        if origin not in self._stepped or self._run.team.interpreter(origin.agent_path[-1]).steps:
            self._stepped.add(origin)
            yield {"type": "step-start"}

    def _approval(self, envelope: Envelope) -> Iterator[WireEvent]:
        match envelope.event:
            case ApprovalRequested() as asked:
                if asked.call_id:
                    call_id = self._id(envelope, asked.call_id)
                    yield from self._call(call_id, asked.tool_name, asked.arguments)
                    self._approvals[call_id] = asked.approval_id
                yield approval_required(
                    asked.approval_id,
                    kind="tool",
                    target=asked.tool_name,
                    payload=asked.arguments,
                    run=self._run,
                    agent_path=envelope.origin.agent_path,
                    expires_at=asked.expires_at,
                    digest=asked.digest,
                )
            case ApprovalResolved(call_id="") as resolved:  # a question of a tool's
                yield approval_decision(resolved.approval_id, resolved.decision)
            case ApprovalResolved() as resolved:
                call_id = self._id(envelope, resolved.call_id)
                self._decisions[call_id] = resolved.decision
                if approval_id := self._approvals.pop(call_id, ""):
                    yield approval_decision(approval_id, resolved.decision)
                elif resolved.approval_id:
                    self._answered[call_id] = resolved

    def _tool(self, envelope: Envelope) -> Iterator[WireEvent]:
        event: Any = envelope.event
        call_id = self._id(envelope, event.call_id)
        if not isinstance(event, ToolFinished):
            yield from self._call(call_id, event.tool_name, event.arguments)
            if (resolved := self._answered.pop(call_id, None)) is not None:
                yield approval_decision(resolved.approval_id, resolved.decision)
        match event:
            case ToolFinished():
                lost = event.metadata.get("arguments")
                if lost is not None:
                    yield from self._call(call_id, event.tool_name, lost)
                results, key = self._run.results, (envelope.session_id, event.call_id)
                result = results.pop(key) if key in results else _result_of(event)
                yield self._result(call_id, event.tool_name, result)
            case ToolBlocked():
                refusal = _refusal(self._decisions.get(call_id))
                yield self._result(call_id, event.tool_name, refusal)

    def _id(self, envelope: Envelope, call_id: str) -> str:
        return self._run.ids.of(envelope.session_id, call_id)

    def _call(
        self, call_id: str, tool_name: str, arguments: Mapping[str, Any]
    ) -> Iterator[WireEvent]:
        """Say that a tool is called, unless the stream has it already."""
        if call_id not in self._arguments:
            self._arguments[call_id] = dict(arguments)
            yield self._invocation(call_id, tool_name, "call")

    def _result(self, call_id: str, tool_name: str, result: Any) -> WireEvent:
        event = self._invocation(call_id, tool_name, "result")
        self._arguments.pop(call_id, None)
        self._decisions.pop(call_id, None)
        return event | {"result": copy.deepcopy(result)}

    def _invocation(self, call_id: str, tool_name: str, state: str) -> WireEvent:
        return {
            "type": "tool-invocation",
            "toolInvocationId": call_id,
            "toolName": tool_name,
            "args": copy.deepcopy(self._arguments.get(call_id, {})),
            "state": state,
        }


def approval_required(
    approval_id: str,
    *,
    kind: str,
    target: str,
    payload: Mapping[str, Any],
    run: TeamRun,
    agent_path: tuple[str, ...],
    expires_at: dt.datetime | None,
    digest: str,
) -> WireEvent:
    """Return the event that an approval is waited for."""
    data = {
        "id": approval_id,
        "kind": kind,
        "target": target,
        "payload": copy.deepcopy(dict(payload)),
        "resourceId": run.tenant,
        "threadId": run.thread_id,
        "agentPath": "/".join(agent_path),
        "digest": digest,
    }
    if expires_at is not None:
        data["expiresAt"] = expires_at.isoformat()
    return {"type": "approval-required", "data": data}


def approval_decision(approval_id: str, decision: Decision) -> WireEvent:
    """Return the event that an approval was answered."""
    outcome: dict[str, Any] = {"outcome": decision.outcome}
    if decision.partial is not None:
        outcome["partial"] = copy.deepcopy(dict(decision.partial))
    data: dict[str, Any] = {"id": approval_id, "outcome": outcome}
    if decision.feedback is not None:
        data["feedback"] = decision.feedback
    return {"type": "approval-decision", "data": data}


def _result_of(event: ToolFinished) -> Any:
    """Return the result of a tool that knows no stream, or of a call that could not be tried."""
    return event.content if event.success else {"error": event.content}


def _refusal(decision: Decision | None) -> dict[str, Any]:
    """Return the result of a call that was rejected or is to be revised."""
    feedback = None if decision is None else decision.feedback
    said = {} if feedback is None else {"feedback": feedback}
    return {"error": "rejected", **said, "retry": False}
