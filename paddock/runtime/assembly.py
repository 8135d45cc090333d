"""Putting a run's loop together from an agent, a state and what a session is set to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.runtime.approvals.rules import Rules, rules_of
from paddock.runtime.context import SessionContext
from paddock.runtime.core.model import ModelRequest
from paddock.runtime.delegation import Delegation
from paddock.runtime.execution import Execution
from paddock.runtime.gate import ApprovalGate
from paddock.runtime.loop import AgentLoop
from paddock.runtime.response_format import answer_format
from paddock.runtime.secret_scope import RedactingModelClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.conversation.directory import SessionDirectory
    from paddock.runtime.conversation.state import State
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.emitter import Emitter
    from paddock.runtime.core.keeper import Keeper
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.response_format import AnswerFormat
    from paddock.runtime.secret_scope import SecretScope
    from paddock.runtime.session import Session
    from paddock.runtime.settings import SessionSettings
    from paddock.sandbox import Sandbox

__all__ = ["Assembly"]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What the loops of one session have in common. `agent` gives the one that the session has
    at that moment, `connect` the model's client, and `open_session` makes sessions for agents
    that work for this one."""

    agent: Callable[[], Agent]
    state: State
    settings: SessionSettings
    connect: Callable[[], Awaitable[ModelClient]]
    sandbox: Keeper[Sandbox]
    secrecy: SecretScope
    directory: SessionDirectory | None
    open_session: type[Session]

    async def make(
        self,
        meter: UsageMeter,
        out: Emitter,
        check: Callable[[], None],
        before_turn: Callable[[], Awaitable[None]],
    ) -> AgentLoop:
        """A loop for one run, whose model calls are counted in `meter`."""
        # A prompt file takes a process to render, and a format imports what checks answers.
        request, wanted = await asyncio.to_thread(self._asked)
        redactor = self.secrecy.redactor
        client = await self.connect()
        return AgentLoop(
            state=self.state,
            client=RedactingModelClient(client, redactor) if redactor else client,
            request=request,
            answer_format=wanted,
            rules=self.rules,
            out=out,
            check=check,
            before_turn=before_turn,
            gate=ApprovalGate(state=self.state, out=out, check=check),
            execution=Execution(
                state=self.state,
                context=self._context(meter, out),
                out=out,
                check=check,
                redactor=redactor,
            ),
            meter=meter,
            budget_gate=self.settings.budget_gate,
        )

    def rules(self) -> Rules:
        """What holds for calls now; it may change in the middle of a run."""
        own = rules_of(self.agent(), self.settings.approval_callback)
        return own if self.settings.oversight is None else self.settings.oversight(own)

    def _context(self, meter: UsageMeter, out: Emitter) -> SessionContext:
        delegation = Delegation(parent=self, open_session=self.open_session, meter=meter, out=out)
        return SessionContext(
            keeper=self.sandbox, meter=meter, secrecy=self.secrecy, delegation=delegation
        )

    def _asked(self) -> tuple[ModelRequest, AnswerFormat | None]:
        """What every request has in common, and what the answer has to be. Blocks."""
        agent, given = self.agent(), self.settings.system_prompt
        config, prompt = agent.config, agent.system_prompt if given is None else given
        wanted = answer_format(config.response_format)
        request = ModelRequest(
            model=config.model,
            messages=[{"role": "system", "content": self.secrecy.redactor.text(prompt)}],
            response_format=None if wanted is None else wanted.wire,
            reasoning_effort=config.reasoning_effort,
            service_tier=config.service_tier,
        )
        return request, wanted
