"""What the agents and tools of one run share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.core.budget import UsageMeter
    from paddock.runtime.orchestration.fields import AgentLimits
    from paddock.runtime.orchestration.references import References
    from paddock.runtime.orchestration.stream import WireEvent, WireSink
    from paddock.runtime.orchestration.team import Team

__all__ = ["CallIds", "TeamRun", "conversation_key"]

_SCRIPTED = re.compile(r"(scripted-tool-\d+)-\d+")
"""An id of the scripted interpreter that a conversation had before: then it has a new ending."""


class CallIds:
    """The ids of tool calls as one stream has them: there no two calls have the same one, though
    two agents may use the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._used: set[str] = set()

    def of(self, session_id: str, call_id: str) -> str:
        """Return the id of the call `call_id` in session `session_id`."""
        key = session_id, call_id
        if key not in self._known:
            scripted = _SCRIPTED.fullmatch(call_id)
            self._known[key] = self._unused(scripted[1] if scripted else call_id)
        return self._known[key]

    def _unused(self, wanted: str) -> str:
        candidate, number = wanted, 2
        while candidate in self._used:
            candidate, number = f"{wanted}-{number}", number + 1
        self._used.add(candidate)
        return candidate


def conversation_key(thread_id: str, agent: str, run_id: str = "") -> str:
    """Return the id of an agent's conversation in a thread, or in one run there."""
    parts = (part for part in (thread_id, agent, run_id) if part)
    return "/".join(quote(part, safe="", errors="surrogatepass") for part in parts)


@dataclass(kw_only=True, eq=False)
class TeamRun:
    """One run of a runtime's agents for one prompt: the `deps` of all their tools.

    `meter` counts what all its agents use. `results` has what tools have returned, by session and
    call, until the stream has it.
    """

    run_id: str
    thread_id: str
    team: Team
    sink: WireSink
    meter: UsageMeter
    limits: AgentLimits | None = None
    """What was given for this run alone."""
    ids: CallIds = field(default_factory=CallIds)
    results: dict[tuple[str, str], Any] = field(default_factory=dict)
    keeps_sandboxes: bool = True
    """Whether a runtime that keeps sandboxes keeps those of its thread for later runs."""
    is_resumed: bool = False
    asked: set[str] = field(default_factory=set)
    """The ids of the approvals that it waits for."""
    scripted_calls: int = 0
    """How many calls the scripted interpreter has made."""

    @property
    def tenant(self) -> str:
        return self.team.spec.tenant.resource_id

    @property
    def services(self) -> Mapping[str, Any]:
        return self.team.services

    @property
    def references(self) -> References:
        """Creates and reads references of the tenant."""
        return self.team.references

    def thread_of(self, agent_path: Sequence[str]) -> str:
        """Return the thread in which the last agent of `agent_path` works."""
        return "/".join([self.thread_id, *agent_path[1:]])

    async def emit(self, event: WireEvent) -> None:
        """Emit `event` to the reader of the run."""
        match event["type"]:
            case "approval-required":
                self.asked.add(event["data"]["id"])
            case "approval-decision":
                self.asked.discard(event["data"]["id"])
        await self.sink.emit(event)
