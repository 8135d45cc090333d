"""What the loop of a run works with, from an agent, a state and what a session is set to."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from paddock.runtime.agents.secret_scope import RedactingModelClient
from paddock.runtime.approvals.gate import StoreGate
from paddock.runtime.approvals.questions import Questions
from paddock.runtime.conversation.compaction import HistoryCompactor
from paddock.runtime.conversation.control import Control
from paddock.runtime.core.cancellation import CancellationToken, CancelScope
from paddock.runtime.core.context import RunContext
from paddock.runtime.core.model import ModelRequest
from paddock.runtime.core.response_format import answer_format
from paddock.runtime.core.rules import Rules
from paddock.runtime.core.spec import LoopSpec
from paddock.runtime.core.tool import RunAborted
from paddock.runtime.models.context_window import context_window
from paddock.runtime.models.pricing import price
from paddock.runtime.session.compacting import Compaction
from paddock.runtime.session.run import Run
from paddock.runtime.session.subagents import AgentRunner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.approvals.run_approvals import RunApprovals
    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.conversation.journal import Journal
    from paddock.runtime.conversation.results import AgentEvents
    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.model import Usage
    from paddock.runtime.core.response_format import AnswerFormat
    from paddock.runtime.session.resources import SessionResources
    from paddock.runtime.session.session import Session
    from paddock.runtime.session.settings import SessionSettings
    from paddock.sandbox import Sandbox

__all__ = ["SessionParts"]


@dataclass(frozen=True, kw_only=True)
class SessionParts:
    """What the loops of one session have in common. `agent` gives the one that the session has
    at that moment, and `open_session` makes sessions for agents that work for this one."""

    agent: Callable[[], Agent]
    journal: Journal
    settings: SessionSettings
    resources: SessionResources
    directory: SessionDirectory | None
    deps: Any
    approvals: RunApprovals
    open_session: type[Session]

    @property
    def state(self) -> State:
        return self.journal.state

    def new_run(
        self, out: Emitter, shown: AgentEvents, meter: UsageMeter, max_turns: int | None
    ) -> Run:
        """Return a run that has not begun, whose events go to `out` and so to `shown`."""
        token, control, scope = self._cancellation()
        return Run(
            token=token,
            journal=self.journal,
            out=out,
            shown=shown,
            scope=scope,
            prepare=functools.partial(self.loop_spec, meter, out, scope.check, control),
            meter=meter,
            max_turns=max_turns,
            rules=self.rules,
            config=self.agent().config,
            approvals=self.approvals,
            task_id=self.settings.task_id,
        )

    def new_compaction(self, out: Emitter, meter: UsageMeter) -> Compaction:
        """Return a compaction that has not begun."""
        token, control, scope = self._cancellation()
        return Compaction(
            token=token,
            journal=self.journal,
            out=out,
            directory=self.directory,
            scope=scope,
            prepare=functools.partial(self.loop_spec, meter, out, scope.check, control),
            meter=meter,
            compactor=self.compactor(scope.check),
        )

    def _cancellation(self) -> tuple[CancellationToken, Control, CancelScope]:
        token, control = CancellationToken(), Control(directory=self.directory)
        check = self.settings.cancel_check
        return token, control, CancelScope(token, poll=control.poll, cancel_check=check)

    async def loop_spec(
        self,
        meter: UsageMeter,
        out: Emitter,
        check: Callable[[], Awaitable[None]],
        control: Control,
    ) -> LoopSpec:
        """Return the spec of one run, whose model calls are counted in `meter`."""
        # A prompt file may take seconds to render, and a format imports what checks answers.
        request, wanted = await asyncio.to_thread(self._asked)
        client = await self.resources.connect()
        await self.resources.connect_mcp_servers()
        return LoopSpec(
            client=RedactingModelClient(client, out.redactor) if out.redactor else client,
            request=request,
            history=self.state,
            rules=self.rules,
            gate=StoreGate(history=self.state, out=out, check=check, approvals=self.approvals),
            context=self._context(meter, out),
            out=out,
            meter=meter,
            check=check,
            before_call=functools.partial(control.before_call, out, check),
            compactor=self.compactor(check) if self.settings.auto_compact else None,
            answer_format=wanted,
            answer_repairs=self.settings.answer_repairs,
            budget_gate=self.settings.budget_gate,
            price=_priced,
        )

    def rules(self) -> Rules:
        """Return the rules for tool calls now; they may change in the middle of a run."""
        agent, settings = self.agent(), self.settings
        own = Rules(
            registry=self.resources.with_mcp_tools(agent.registry),
            callback=settings.approval_callback,
            auto_approve=agent.config.auto_approve,
            backend=agent.config.backend_name,
            policy=settings.approval_policy,
        )
        return own if self.settings.policy_override is None else self.settings.policy_override(own)

    def _context(self, meter: UsageMeter, out: Emitter) -> RunContext[Any]:
        endpoint = self.agent().endpoint
        return RunContext(
            deps=self.deps,
            session_id=self.state.session_id or "",
            agent_path=out.origin.agent_path,
            redactor=out.redactor,
            get_sandbox=self._lent_sandbox,
            agents=AgentRunner(parts=self, meter=meter, out=out, endpoint=endpoint),
            on_question=Questions(out=out, rules=self.rules, approvals=self.approvals).ask,
        )

    async def _lent_sandbox(self) -> Sandbox:
        """See `RunContext.sandbox`."""
        try:
            return await self.resources.get_sandbox()
        except Exception as error:
            raise RunAborted(error) from error

    def compactor(self, check: Callable[[], Awaitable[None]]) -> HistoryCompactor:
        return HistoryCompactor(
            state=self.state,
            check=check,
            window=self.settings.context_window or self.agent().config.context_window,
            look_up=context_window,
        )

    def _asked(self) -> tuple[ModelRequest, AnswerFormat | None]:
        """What every request has in common, and what the answer has to be. Blocks."""
        agent, given = self.agent(), self.settings.system_prompt
        config, prompt = agent.config, agent.system_prompt if given is None else given
        wanted = answer_format(config.response_format)
        request = ModelRequest(
            model=config.model,
            messages=[{"role": "system", "content": self.resources.secrets.redactor.text(prompt)}],
            response_format=None if wanted is None else wanted.wire,
            reasoning_effort=config.reasoning_effort,
            service_tier=config.service_tier,
            price=config.price_of(config.model),
            options=config.sent,
            extra_body=config.extra_body or {},
            extra_headers=config.extra_headers or {},
            timeout=config.timeout,
            idle_timeout=config.idle_timeout,
        )
        return request, wanted


async def _priced(request: ModelRequest, usage: Usage) -> Usage:
    if request.price is not None:
        return replace(usage, cost_usd=request.price.cost(usage))
    cost = await price(request.model, usage, service_tier=request.service_tier)
    return replace(usage, cost_usd=cost)
