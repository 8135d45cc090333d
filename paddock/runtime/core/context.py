"""What a tool may use while it works on one call. Knows no session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from paddock.redaction import NOTHING_SECRET, Redactor
from paddock.runtime.core.cancellation import CancellationToken
from paddock.runtime.core.subagent import AgentTask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.core.approval import ApprovalCallback, Decision, Question
    from paddock.runtime.core.budget import Budget
    from paddock.runtime.core.cancellation import CancelCheck
    from paddock.runtime.core.subagent import AgentDefinition, AgentReport, RunAgent
    from paddock.sandbox import Sandbox

__all__ = ["RunContext"]

Deps = TypeVar("Deps")


@dataclass(frozen=True, kw_only=True)
class RunContext(Generic[Deps]):
    """What a tool may use while it works on one call: the session's sandbox and more.

    A function whose first parameter is annotated with this type gets it there; a `ToolHandler`
    has it as ``invocation.context``. Make one yourself to test a tool.

    - `deps` is what the run was given: `Session.run(deps=...)`.
    - `call_id`, `tool_name`, `session_id`, `run_id` and `agent_path` (see `Origin`) identify the
      call.
    - `is_resumed`: an earlier run ended in the middle of this call, which is entered again; see
      `ToolHandler.is_resumable`.
    - `redactor` hides the secrets of the run; results are redacted without it.
    - `cancellation` tells a synchronous function, which cannot be stopped, that its result is
      no longer needed.
    """

    deps: Deps
    call_id: str = ""
    tool_name: str = ""
    session_id: str = ""
    run_id: int = 0
    agent_path: tuple[str, ...] = ()
    is_resumed: bool = False
    redactor: Redactor = NOTHING_SECRET
    cancellation: CancellationToken = field(default_factory=CancellationToken)
    get_sandbox: Callable[[], Awaitable[Sandbox]] | None = None
    agents: RunAgent | None = None
    on_progress: Callable[[str], object] | None = None
    on_question: Callable[[Question], Awaitable[Decision | None]] | None = None

    async def sandbox(self) -> Sandbox:
        """Return the session's sandbox, which is made at the first call.

        Raises `RunAborted` if it cannot be made, and `RuntimeError` outside a session.
        """
        if self.get_sandbox is None:
            raise RuntimeError(f"the tool '{self.tool_name}' needs a session's sandbox")
        return await self.get_sandbox()

    def progress(self, text: str) -> None:
        """Report what the tool does now, as a `ToolProgress` event. May be called in any thread.

        Long texts are cut, and of many reports at once only the last are shown.
        """
        if self.on_progress is not None:
            self.on_progress(text)

    async def ask(self, question: Question) -> Decision | None:
        """Ask the approver of calls, and wait for the answer; None if no one can be asked now.

        When this is cancelled, the question is withdrawn.
        """
        return None if self.on_question is None else await self.on_question(question)

    async def run_agent(
        self,
        instruction: str,
        *,
        name: str | None = None,
        agent: AgentDefinition | None = None,
        system_prompt: str | None = None,
        full_context: bool = False,
        own_sandbox: bool = False,
        without: frozenset[str] = frozenset(),
        conversation: str | None = None,
        approval_callback: ApprovalCallback | None = None,
        cancel_check: CancelCheck | None = None,
        budget: Budget | None = None,
        max_turns: int | None = None,
    ) -> AgentReport:
        """Have an agent follow `instruction`, and return how it ended; see `AgentTask`.

        Where the session is kept, so is the agent's conversation. A call that is resumed has to run
        the same agents in the same order again: each continues where it was, and one that had
        ended returns what it said.

        When this is cancelled, the agent has ended before the cancellation passes on. Raises
        `RuntimeError` outside a session.
        """
        if self.agents is None:
            raise RuntimeError(f"the tool '{self.tool_name}' needs a session to run an agent")
        task = AgentTask(
            instruction=instruction,
            call_id=self.call_id,
            tool_name=self.tool_name,
            name=name,
            is_resumed=self.is_resumed,
            conversation=conversation,
            agent=agent,
            system_prompt=system_prompt,
            full_context=full_context,
            own_sandbox=own_sandbox,
            without=without,
            approval_callback=approval_callback,
            cancel_check=cancel_check,
            budget=budget,
            max_turns=max_turns,
        )
        return await self.agents.run_agent(task)


NO_CONTEXT: RunContext[Any] = RunContext(deps=None)
"""The context of a call that is made by hand, outside a session."""
