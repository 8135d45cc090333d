"""What a session lends to the tools of one run. Knows no tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.errors import PaddockError
from paddock.runtime.core.tool import RunAborted

if TYPE_CHECKING:
    from paddock.runtime.agents.runner import AgentRunner
    from paddock.runtime.agents.secret_scope import SecretScope
    from paddock.runtime.core.keeper import Keeper
    from paddock.runtime.core.subagent import AgentReport, AgentTask
    from paddock.sandbox import Sandbox

__all__ = ["SessionContext"]


@dataclass(kw_only=True)
class SessionContext:
    """The sandbox of the session with the run's secrets, and agents that work for it."""

    keeper: Keeper[Sandbox]
    secrecy: SecretScope
    runner: AgentRunner

    async def sandbox(self) -> Sandbox:
        """Return the session's sandbox, made at the first call; see `RunContext.sandbox`."""
        try:
            return self.secrecy.lend(await self.keeper.get())
        except Exception as error:
            raise RunAborted(error) from error

    async def run_agent(self, task: AgentTask) -> AgentReport:
        """Run an agent for a tool; see `RunAgent`."""
        self.runner.require_depth()
        try:
            return await self.runner.run_agent(task)
        except PaddockError as error:
            if task.shares_sandbox:  # what one could not make, nobody here can
                raise RunAborted(error) from error
            raise
