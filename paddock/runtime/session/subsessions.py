"""The sessions of agents that work for a session's own, which lends them what it has."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.runtime.core.reach import require_out_of_reach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.agents.runner import SubAgent
    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.core.model import Message
    from paddock.runtime.core.rules import Rules
    from paddock.runtime.session.parts import SessionParts
    from paddock.runtime.session.session import Session

__all__ = ["SubSessions"]


@dataclass(frozen=True, kw_only=True)
class SubSessions:
    """Opens sessions for one run, an `AgentHost`. `endpoint` is that of the run's model, and
    `meter` counts what the run uses."""

    parts: SessionParts
    meter: UsageMeter
    endpoint: object

    @property
    def agent(self) -> Agent:
        return self.parts.agent()

    @property
    def messages(self) -> Sequence[Message]:
        return self.parts.state.messages

    def rules(self) -> Rules:
        return self.parts.rules()

    @contextlib.asynccontextmanager
    async def open(self, sub: SubAgent) -> AsyncIterator[Session]:
        """See `AgentHost.open`."""
        async with await self._session(sub) as session:
            yield session

    async def _session(self, sub: SubAgent) -> Session:
        parts, settings, task = self.parts, self.parts.settings, sub.task
        if parts.directory is not None:
            place = parts.directory.path
            require_out_of_reach(place, sub.agent.config, what="the session directory")
        session = parts.open_session(
            sub.agent,
            state=sub.state,
            client=await parts.resources.connect() if sub.agent.endpoint == self.endpoint else None,
            budget=self.meter,
            secrets=parts.resources.secrets.lent_to(
                sub.agent, whole=task.agent is None, shared=task.shares_sandbox
            ),
            sandbox=parts.resources.sandbox if task.shares_sandbox else None,
        )
        session.origin = sub.origin
        session.sinks = sub.sinks
        session.oversight = sub.oversight
        if settings.approval_wait:  # without, nobody could resume what waits
            session.approval_store = settings.approval_store
            session.approval_session = parts.approvals.session_id
            session.approval_wait = True
        session.approval_timeout = settings.approval_timeout
        session.on_refusal = parts.approvals.on_refusal
        session.cancel_check = task.cancel_check
        session.deps = settings.deps
        session.auto_compact = settings.auto_compact
        session.context_window = settings.context_window
        session.on_provision = settings.on_provision
        session.max_agent_depth = settings.max_agent_depth
        if task.agent is None and task.system_prompt is None:
            given = settings.system_prompt
            session.system_prompt = self.agent.system_prompt if given is None else given
        return session
