"""The conversation: a fold over the trace's records.

A live session and a trace file go through the same `State.apply`, so what a session
holds is what its trace says. Knows no files.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Protocol

from paddock._logs import get_logger
from paddock.errors import TraceError
from paddock.runtime.conversation.open_calls import OpenCalls
from paddock.runtime.conversation.records import message_of, usage_fields, usage_of
from paddock.runtime.conversation.trace import encode_record, read_records
from paddock.runtime.core.model import Message, Usage, tool_message
from paddock.runtime.core.size import CHARS_PER_TOKEN, message_characters, message_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from paddock.runtime.conversation.records import Record
    from paddock.runtime.core.approval import ToolApprovalItem, ToolDecision
    from paddock.runtime.core.calls import OpenCall
    from paddock.runtime.core.events import SessionStatus

__all__ = ["State", "StateObserver", "recent_prompts", "stamped", "summary_message"]

RECENT_PROMPTS = 3
"""The user's messages that a compaction keeps, in their own words."""

SUMMARY_PREFIX = "Summary of the conversation so far, in place of its messages:\n\n"
NO_RESULT = "No result was recorded for this call."

_log = get_logger(__name__)


class StateObserver(Protocol):
    """Told of everything that happens to a `State`."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Take a record of the trace, after it was written. What it raises is only logged."""
        ...


def stamped(record: Record, at: dt.datetime | None = None) -> Record:
    """`record` with the time `at` (UTC, ISO 8601; None for now) under both of the names that
    readers know."""
    time = (at or dt.datetime.now(dt.UTC)).isoformat()
    return {**record, "ts": time, "timestamp": time}


class State:
    """Messages, usage and status of one session, over all its runs.

    `messages` are in OpenAI chat format, without the system prompt. `status` is
    created, running, or how the last run ended; `run_count` counts runs that ended.
    """

    def __init__(self, session_id: str | None = None) -> None:
        self.session_id: str | None = session_id
        self.messages: list[Message] = []
        self.status: SessionStatus = "created"
        self.run_count: int = 0
        self.runs_started: int = 0
        self.task_id: str = ""
        """What the last run worked on; see `SessionSettings.task_id`."""
        self.task_ids: set[str] = set()
        """The same of all runs."""
        self.has_answer: bool = False
        """Whether the last message is an answer of the model's, whole and without calls."""
        self.unsaid: str = ""
        """The prompt of a run that died before its message was recorded."""
        self.total: Usage = Usage()
        self.task_usage: Usage = Usage()
        """What was used since the last task began, with the agents that worked for it."""
        self.task_turns: int = 0
        """The same of its own model calls."""
        self.task_turns_below: int = 0
        """The same of those of other agents."""
        self.last_input_tokens: int = 0
        self.system_prompt: str | None = None
        """What the conversation began with, where its store keeps it."""
        self.trace_end = 0
        """The position in its store up to which this state has seen it."""
        self._answers = False  # whether a model call has ended whose message comes next
        self._characters = 0
        self._characters_sent = 0  # of the last model call
        self._characters_compacted = 0  # what the last compaction left
        self._calls = OpenCalls()
        self._observers: list[StateObserver] = []

    @classmethod
    def from_jsonl(cls, data: bytes) -> State:
        """The state that a trace tells, a live one's included; a torn last line is left out.

        Raises `TraceError` if another line is damaged.
        """
        state = cls()
        content = read_records(data)
        state.replay(content.records)
        state.trace_end = content.end
        return state

    def to_jsonl(self) -> bytes:
        """A short trace that gives an equal state back: messages, approvals and usage."""
        lines = [encode_record(stamped(record)) for record in self.snapshot()]
        return b"".join(lines)

    def snapshot(self) -> list[Record]:
        """The records of `to_jsonl`."""
        records: list[Record] = []
        if self.system_prompt is not None:
            records.append({"type": "system_prompt", "content": self.system_prompt})
        records += [{"type": "message", **message} for message in self.messages]
        records += self._calls.records()
        numbers: dict[str, Any] = {"status": self.status, "run_count": self.run_count}
        if self.session_id is not None:
            numbers["session_id"] = self.session_id
        return [*records, {"type": "usage", **self.usage, **numbers}]

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens and cost over all runs."""
        return usage_fields(self.total)

    @property
    def open_calls(self) -> tuple[OpenCall, ...]:
        """The last answer's tool calls that have no result yet, in its order."""
        return self._calls.all

    def open_call(self, call_id: str) -> OpenCall | None:
        """The open call of this id, if there is one."""
        return self._calls.get(call_id)

    @property
    def pending_approvals(self) -> tuple[ToolApprovalItem, ...]:
        """The open calls whose approval was asked for and is waited for."""
        return self._calls.pending_approvals

    @property
    def decisions(self) -> tuple[ToolDecision, ...]:
        """What was answered for open calls: it holds until they have results."""
        return self._calls.decisions

    def has_call(self, call_id: str) -> bool:
        """Whether a call of this id was made before."""
        return self._calls.has_been_made(call_id)

    def get_messages(self) -> list[Message]:
        """A copy of the list of messages."""
        return list(self.messages)

    def get_user_messages(self) -> list[str]:
        """The texts of the user's messages."""
        return [message_text(message) for message in self.messages if message["role"] == "user"]

    def estimate_tokens(self) -> int:
        """The size of the messages, at four characters for a token."""
        return self._characters // CHARS_PER_TOKEN

    @property
    def context_tokens(self) -> int:
        """The size of the next request: what the service counted for the last one, and an
        estimate of what came since."""
        added = max(0, self._characters - self._characters_sent)
        counted = self.last_input_tokens + added // CHARS_PER_TOKEN
        return max(counted if self.last_input_tokens else 0, self.estimate_tokens())

    @property
    def tokens_since_compaction(self) -> int | None:
        """An estimate of what came since the history was last compacted; None if it never was."""
        if not self._characters_compacted:
            return None
        return (self._characters - self._characters_compacted) // CHARS_PER_TOKEN

    @property
    def observers(self) -> tuple[StateObserver, ...]:
        """The observers of every record."""
        return tuple(self._observers)

    def add_observer(self, observer: StateObserver) -> None:
        self._observers.append(observer)

    def remove_observer(self, observer: StateObserver) -> None:
        """Take `observer` out; nothing happens if it was not there."""
        if observer in self._observers:
            self._observers.remove(observer)

    def replace_with_summary(self, summary: str) -> None:
        """Replace all messages by the last `RECENT_PROMPTS` user messages and `summary`."""
        self._replace([*recent_prompts(self.messages), summary_message(summary)])

    def _replace(self, messages: list[Message]) -> None:
        self.messages = messages
        self._characters = sum(map(message_characters, self.messages))
        self._characters_compacted = self._characters
        self._calls.clear()
        self.has_answer = False
        self.last_input_tokens = 0

    def replay(self, records: Iterable[Record]) -> None:
        """Take in records of a file; raises `TraceError` if one lacks what its type has."""
        for record in records:
            try:
                self.apply(record)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                kind = record["type"]
                raise TraceError(
                    f"invalid {kind!r} record in the trace: {_reason(error)}"
                ) from error

    def apply(self, record: Record) -> None:
        """Take in one record of a trace; types that mean nothing here are passed over."""
        handler = _HANDLERS.get(record["type"])
        if handler is not None:
            handler(self, record)

    def notify(self, record: Record) -> None:
        """Tell the observers of `record`."""
        for observer in self.observers:
            try:
                observer.on_event(record)
            except Exception:
                _log.exception("a state observer failed")

    def _add_message(self, record: Record) -> None:
        message = message_of(record)
        self.unsaid = ""
        if message["role"] == "tool":
            self._insert_result(message)
            return
        for call in self._calls.all:  # of a trace that another program left unfinished
            self._insert_result(tool_message(call.id, NO_RESULT))
        self._append(message)
        calls = message.get("tool_calls")
        self.has_answer = self._answers and message["role"] == "assistant" and not calls
        self._answers = False
        if calls:
            self._calls.begin(calls)

    def _insert_result(self, message: Message) -> None:
        call_id = message["tool_call_id"]
        self.messages.insert(self._calls.place_of(call_id, self.messages), message)
        self._characters += message_characters(message)
        self._calls.end(call_id)

    def _append(self, message: Message) -> None:
        self.messages.append(message)
        self._characters += message_characters(message)

    def _begin(self, record: Record) -> None:
        self.system_prompt = record["content"]

    def _start_run(self, record: Record) -> None:
        self.status = "running"
        self.runs_started += 1
        task_id = record.get("task_id", "")
        if not record.get("resumed") or task_id != self.task_id:
            self.task_usage, self.task_turns, self.task_turns_below = Usage(), 0, 0
        self.task_id = task_id
        self.task_ids.add(self.task_id)
        self.unsaid = record.get("prompt") or ""
        self.session_id = record.get("session_id", self.session_id)

    def _end_run(self, record: Record) -> None:
        self.status = record["status"]
        self.run_count += 1

    def _end_model(self, record: Record) -> None:
        usage = usage_of({"cached_tokens": record.get("cache_read_tokens"), **record})
        self.total += usage
        self.task_usage += usage
        self.task_turns += 1
        self.last_input_tokens = usage.input_tokens
        self._answers = record.get("cut_short") is not True
        self._characters_sent = self._characters

    def _end_child_model(self, record: Record) -> None:
        usage = usage_of(record)
        self.total += usage
        self.task_usage += usage
        self.task_turns_below += 1

    def _restore_usage(self, record: Record) -> None:
        self.total = usage_of(record)
        self.status = record.get("status", self.status)
        self.run_count = record.get("run_count", self.run_count)
        self.runs_started = max(self.runs_started, self.run_count)
        self.session_id = record.get("session_id", self.session_id)

    def _cut(self, record: Record) -> None:
        self.has_answer = False

    def _compact(self, record: Record) -> None:
        if "kept" in record:  # other programs do not write it
            summary = record["summary"]
            self._replace([*record["kept"], *([summary_message(summary)] if summary else [])])


_HANDLERS: Mapping[str, Callable[[State, Record], None]] = {
    "system_prompt": State._begin,
    "message": State._add_message,
    "tool_start": lambda state, record: state._calls.start(record),
    "approval_required": lambda state, record: state._calls.ask(record),
    "approval": lambda state, record: state._calls.decide(record),
    "run_start": State._start_run,
    "run_end": State._end_run,
    "llm_end": State._end_model,
    "child_llm_end": State._end_child_model,
    "usage": State._restore_usage,
    "truncated": State._cut,
    "compact": State._compact,
}


def recent_prompts(messages: Sequence[Message]) -> list[Message]:
    """Return the last `RECENT_PROMPTS` messages of the user's own."""
    prompts = [
        message
        for message in messages
        if message["role"] == "user" and not message_text(message).startswith(SUMMARY_PREFIX)
    ]
    return prompts[-RECENT_PROMPTS:]


def _reason(error: Exception) -> str:
    return f"missing key {error}" if isinstance(error, KeyError) else str(error)


def summary_message(summary: str) -> Message:
    return {"role": "user", "content": SUMMARY_PREFIX + summary}
