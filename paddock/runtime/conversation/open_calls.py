"""The tool calls of a conversation's last answer, each until it has its result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from paddock.runtime.conversation.records import approval_record, decision_in, decision_record
from paddock.runtime.core.approval import ToolApprovalItem, ToolDecision
from paddock.runtime.core.calls import OpenCall, parse_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.conversation.records import Record
    from paddock.runtime.core.model import Message

__all__ = ["OpenCalls"]


@dataclass(slots=True)
class OpenCalls:
    """What the trace says of calls. `start`, `ask` and `decide` take its records; those about a
    call that is not open change nothing."""

    _open: dict[str, OpenCall] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)

    @property
    def all(self) -> tuple[OpenCall, ...]:
        """The open calls, in the answer's order."""
        return tuple(self._open.values())

    def get(self, call_id: str) -> OpenCall | None:
        return self._open.get(call_id)

    def has_been_made(self, call_id: str) -> bool:
        """Whether a call of this id was made, in this answer or before."""
        return call_id in self._known

    @property
    def pending_approvals(self) -> tuple[ToolApprovalItem, ...]:
        """The calls whose approval was asked for and is waited for."""
        return tuple(
            ToolApprovalItem(
                call.id,
                call.name,
                parse_arguments(call.arguments)[0],
                call.digest,
                call.approval_id,
            )
            for call in self._open.values()
            if call.digest is not None and call.decision is None and not call.started
        )

    @property
    def decisions(self) -> tuple[ToolDecision, ...]:
        """What was answered for calls that have no result yet."""
        return tuple(
            ToolDecision(
                tool_call_id=call.id,
                tool_name=call.name,
                digest=call.digest,
                decision=call.decision,
            )
            for call in self._open.values()
            if call.digest is not None and call.decision is not None
        )

    def records(self) -> list[Record]:
        """Return the records that bring the calls of an answer to where they are."""
        return [
            *map(approval_record, self.pending_approvals),
            *map(decision_record, self.decisions),
            *(_start_record(call) for call in self._open.values() if call.started),
        ]

    def begin(self, calls: list[dict[str, Any]]) -> None:
        """Take the calls of a new answer."""
        self._order = {call["id"]: number for number, call in enumerate(calls)}
        self._known.update(self._order)
        for call in calls:
            function = call["function"]
            self._open[call["id"]] = OpenCall(
                id=call["id"], name=function["name"], arguments=function["arguments"]
            )

    def end(self, call_id: str) -> None:
        """Note that a call has its result."""
        self._open.pop(call_id, None)

    def clear(self) -> None:
        self._open.clear()

    def place_of(self, call_id: str, messages: Sequence[Message]) -> int:
        """Return where a result goes among `messages`: results come in the order in which calls
        end, and history has them in the order of the calls."""
        rank = self._order.get(call_id, len(self._order))
        place = len(messages)
        while place and messages[place - 1]["role"] == "tool":
            other = messages[place - 1]["tool_call_id"]
            if self._order.get(other, -1) <= rank:
                break
            place -= 1
        return place

    def start(self, record: Record) -> None:
        if (call := self._open.get(record["tool_call_id"])) is not None:
            resumable = record.get("resumable") is True
            self._open[call.id] = replace(call, started=True, resumable=resumable)

    def ask(self, record: Record) -> None:
        if (call := self._open.get(record["tool_call_id"])) is not None:
            self._open[call.id] = replace(
                call,
                digest=record["arguments_sha256"],
                approval_id=record.get("approval_id", ""),
                decision=None,
            )

    def decide(self, record: Record) -> None:
        if (call := self._open.get(record["tool_call_id"])) is not None:
            self._open[call.id] = replace(
                call, digest=record["arguments_sha256"], decision=decision_in(record)
            )


def _start_record(call: OpenCall) -> Record:
    return {
        "type": "tool_start",
        "tool_call_id": call.id,
        "tool_name": call.name,
        "tool_args": parse_arguments(call.arguments)[0],
        **({"resumable": True} if call.resumable else {}),
    }
