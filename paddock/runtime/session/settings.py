"""What may be set on a session between its runs, and given to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from paddock.runtime.approvals.stores import MemoryApprovalStore
from paddock.runtime.core.budget import Budget, UsageMeter
from paddock.runtime.core.emitter import TOP, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from paddock.backends.base import ProgressCallback
    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.core.approval import (
        ApprovalCallback,
        ApprovalPolicy,
        ApprovalStore,
        OnRefusal,
    )
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.emitter import EventSink
    from paddock.runtime.core.rules import Rules
    from paddock.runtime.core.spec import BudgetGate

__all__ = ["RunOptions", "SessionSettings"]


class RunOptions(TypedDict, total=False):
    """What one run may be given.

    `max_turns` bounds the model calls, `budget` what this run may use up. `secrets` are in the
    environment of this run's commands, and redacted from then on. `sinks` get the run's events in
    envelopes, as those of the session do. `deps` are `RunContext.deps` of its tools and of agents
    that work for it; `deps` and `on_refusal` take precedence over those of the session.
    """

    max_turns: int | None
    budget: Budget | None
    secrets: Mapping[str, str] | None
    sinks: Sequence[EventSink]
    on_refusal: OnRefusal | None
    deps: Any


class SessionSettings:
    """The attributes of a `Session` that its user may set between runs.

    They are attributes of the class until they are set: a session takes no room for the others.

    `approval_callback`
        Asked when a call needs approval. Without one, `AgentConfig.auto_approve`
        approves, and otherwise the request waits in `approval_store`; see `Session.resume`.
    `approval_policy`
        Says which calls need an approval, instead of the profile and the tools.
    `approval_store`
        Where requests wait that no callback answers: in the session's directory, or in memory
        where it has none. Any process that opens the same store can answer them.
    `approval_wait`
        Whether the run waits in place for the store's answer instead of ending as
        ``interrupted``.
    `approval_timeout`
        Seconds after which a request that waits in the store is refused; None for never.
    `on_refusal`
        What a refused call does: ``end_turn`` or ``continue``; None is what the agent's
        configuration says.
    `cancel_check`
        Polled; True cancels the run. May be async; one that is not runs in a thread.
    `auto_compact`, `context_window`
        Whether the history is summarised when it fills most of `context_window` tokens; None is
        the size that the model is known to have.
    `answer_repairs`
        How often the model may answer again whose final answer is not of the response format.
    `budget`
        Bounds all runs from then on together: a `Budget`, or a `UsageMeter` that others
        share. A run that reaches it ends as ``budget``.
    `deps`
        What tools get as `RunContext.deps`.
    `budget_gate`
        Called with the last input tokens after each turn with tools. A text that it returns is
        added to the conversation as the user's.
    `on_provision`
        Called on the event loop with each step of making the sandbox. After a step that fails
        there is no `ready`.
    `system_prompt`
        Replaces the agent's, unless it is None.
    `sinks`
        Get the events of all runs in envelopes, from the next run on.
    `approval_session`
        The id of the session under which requests are kept; None is this session's own.
    `origin`, `task_id`
        Which agent this is among those that work for each other, and what it works on: a
        conversation knows by it which of its runs is to be resumed.
    `above`
        Gets the events of all runs before this session keeps them; used for sub-agents.
    `keeps_open`
        Whether a run that ends early, or whose process dies, is to be resumed. Then calls that
        had not begun, and those that ran of tools that are resumable, stay open for `resume`,
        where the conversation is kept in a store. Otherwise a call that had begun stays open only
        if the process died, and the others get results that say why they did not run.
    `conversations`
        Where conversations are kept that `RunContext.run_agent` names; None is the store of this
        session.
    `max_agent_depth`
        How deep agents may be nested. A tool that would run one deeper fails with a `ConfigError`,
        which the model reads.
    `policy_override`
        Maps the session's rules for tool calls to those that apply; used for sub-agents.
    """

    approval_callback: ApprovalCallback | None = None
    approval_policy: ApprovalPolicy | None = None
    approval_store: ApprovalStore
    approval_wait: bool = False
    approval_timeout: float | None = None
    on_refusal: OnRefusal | None = None
    cancel_check: CancelCheck | None = None
    auto_compact: bool = True
    context_window: int | None = None
    answer_repairs: int = 1
    deps: Any = None
    budget_gate: BudgetGate | None = None
    on_provision: ProgressCallback | None = None
    system_prompt: str | None = None
    sinks: Sequence[EventSink] = ()
    approval_session: str | None = None
    origin: Origin = TOP
    task_id: str = ""
    above: EventSink | None = None
    keeps_open: bool = False
    conversations: ConversationStore | None = None
    max_agent_depth: int = 5
    policy_override: Callable[[Rules], Rules] | None = None
    _meter: UsageMeter | None = None

    def __init__(self) -> None:
        self.approval_store = MemoryApprovalStore()
        self._attached: list[EventSink] = []

    @property
    def budget(self) -> Budget | None:
        """What all runs together may use up; None for any amount."""
        return None if self._meter is None else self._meter.budget

    @budget.setter
    def budget(self, budget: Budget | UsageMeter | None) -> None:
        self._meter = UsageMeter(budget) if isinstance(budget, Budget) else budget

    def attach(self, sink: EventSink) -> None:
        """Give `sink` the events of all runs from the next one on, whatever `sinks` are set."""
        self._attached.append(sink)

    def detach(self, sink: EventSink) -> None:
        """Give `sink` no more events, from the next run on. Do nothing if it was not attached."""
        if sink in self._attached:
            self._attached.remove(sink)

    def open_meter(self, budget: Budget | None) -> UsageMeter:
        """Return the meter of a run that is bounded by `budget`, and by that of the session."""
        return UsageMeter(Budget() if budget is None else budget, parent=self._meter)
