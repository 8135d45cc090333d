"""Agents with MCP servers, and what their models read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from paddock import Agent, AgentConfig, LocalBackend, ScriptedModel, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

Call: TypeAlias = tuple[str, dict[str, Any]]


def agent_of(*servers: dict[str, Any], **config: Any) -> Agent:
    given = {"profile": "unrestricted", "backend": LocalBackend(isolation="none"), **config}
    return Agent(AgentConfig(mcp_servers=list(servers), **given))


def script_of(calls: Sequence[Call]) -> ScriptedModel:
    turns = [{"tool_calls": [{"name": name, "arguments": given}]} for name, given in calls]
    return ScriptedModel([*turns, {"text": "done"}])


async def results(agent: Agent, *calls: Call, approval_callback: Any = None) -> list[Any]:
    """What the model reads of `calls`, made one after the other in one run."""
    async with Session(agent, client=script_of(calls)) as session:
        session.approval_callback = approval_callback
        result = await session.run("Go.")
        assert (result.status, result.reason) == ("completed", None)
        return [
            message["content"] for message in session.state.messages if message["role"] == "tool"
        ]
