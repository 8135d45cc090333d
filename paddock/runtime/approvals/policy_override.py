"""What agents that work for another one may do: no more than the one above them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from paddock.runtime.approvals.policies import AskAlso, AskByTools
from paddock.runtime.core.calling import call

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from paddock.runtime.core.approval import ApprovalCallback, Decision
    from paddock.runtime.core.rules import Rules
    from paddock.runtime.core.subagent import AgentTask
    from paddock.runtime.core.tool import ToolCatalog

__all__ = ["PolicyOverride"]


class PolicyOverride:
    """The rules for the calls of an agent that does `task`, by those for the one above at that
    moment. An agent of its own definition has its own tools, and is approved automatically only
    if the one above is too."""

    def __init__(self, task: AgentTask, above: Callable[[], Rules], asking: asyncio.Lock) -> None:
        self._task = task
        self._above = above
        self._asking = asking
        self._lent: tuple[ToolCatalog, ToolCatalog] | None = None

    def __call__(self, own: Rules) -> Rules:
        task, above = self._task, self._above()
        callback = task.approval_callback
        if callback is None and above.callback is not None:
            callback = _InTurn(above.callback, self._asking)
        own = replace(own, callback=callback, policy=above.policy)
        if task.agent is not None:
            auto_approve = own.auto_approve and above.auto_approve
            policy = above.policy and AskAlso(AskByTools(own.registry), above.policy)
            return replace(own, auto_approve=auto_approve, policy=policy)
        return replace(own, registry=self._lend(above.registry), auto_approve=above.auto_approve)

    def _lend(self, registry: ToolCatalog) -> ToolCatalog:
        if self._lent is None or self._lent[0] is not registry:
            self._lent = registry, registry.without(self._task.without)
        return self._lent[1]


@dataclass(frozen=True)
class _InTurn:
    """Asks `callback` when no other agent is asking it."""

    callback: ApprovalCallback
    asking: asyncio.Lock

    async def __call__(self, name: str, arguments: dict[str, Any]) -> bool | Decision:
        async with self.asking:
            return await call(self.callback, name, arguments)
