"""The agents that ``paddock serve`` has: the core's agent, with its tools on this container."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.core.emitter import TOP, EventSink
from paddock.runtime.core.events import ModelFinished, ModelRetry, TextAdded
from paddock.runtime.models import SCRIPTED, create_model
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.permissions.profile import load_profile
from paddock.runtime.remote.echo import EchoAgent
from paddock.runtime.remote.failures import RequestFailed
from paddock.runtime.remote.formats import MISMATCH
from paddock.runtime.remote.workplace import recipe
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.runtime.conversation.results import RunResult
    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.core.model import ModelClient
    from paddock.runtime.remote.handler import AgentInvocation, HandlerObject, Sender

__all__ = ["AGENTS", "ModelAgent", "agent_named"]

KEYS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
}
"""The variables with a service's key and place. No command of the agent sees them."""
AGENTS = ("openai", "anthropic", "claude", "echo", "scripted:FILE")
REPAIRS = 2
"""How often a model may answer again whose output does not fit the schema."""


def agent_named(name: str) -> HandlerObject:
    """Return the agent of this name. Raise `ConfigError` if there is none, or its script is bad."""
    if name == "echo":
        return EchoAgent()
    if name.startswith(SCRIPTED):
        script = ScriptedModel.from_file(name.removeprefix(SCRIPTED))
        return ModelAgent(lambda _: script)
    provider = {"claude": "anthropic"}.get(name, name)
    if provider not in KEYS:
        raise ConfigError(f"there is no agent {name!r}; there are: {', '.join(AGENTS)}")
    return ModelAgent(lambda invocation: _service(provider, invocation))


def _service(provider: str, invocation: AgentInvocation) -> ModelClient:
    key, place = KEYS[provider]
    if not invocation.env.get(key):
        raise RequestFailed(f"{key} is not set: give it in agent_env")
    return create_model(
        invocation.model,
        provider=provider,
        base_url=invocation.env.get(place),
        api_key=invocation.env[key],
    )


class ModelAgent:
    """A handler that runs the core's agent. `make_model` makes the model of an invocation."""

    uses_sandbox = False  # its session makes one, when a tool needs it

    def __init__(self, make_model: Callable[[AgentInvocation], ModelClient]) -> None:
        self._make_model = make_model

    async def run(self, invocation: AgentInvocation, sender: Sender) -> dict[str, Any]:
        """Return the agent's answer: structured, if the invocation has a schema."""
        began = time.monotonic()
        model = self._make_model(invocation)
        told = _Assistant(sender)
        try:
            async with Session(Agent(_config(invocation), model=model)) as session:
                session.system_prompt = invocation.system_prompt
                session.answer_repairs = REPAIRS
                session.sinks = (*session.sinks, told)
                result = await session.run(invocation.user_prompt)
                session_id = session.id
        finally:
            await model.aclose()
        metadata = {
            **_usage(result),
            "duration_ms": round((time.monotonic() - began) * 1000),
            "num_turns": told.turns,
            "session_id": session_id,
        }
        return _answer(result, metadata, invocation.output_format)


def _config(invocation: AgentInvocation) -> AgentConfig:
    keys = {name for names in KEYS.values() for name in names}
    given = {name: value for name, value in invocation.agent_env.items() if name not in keys}
    without = {name: "" for name in keys if name in invocation.env}
    profile = load_profile("unrestricted")
    wanted = invocation.output_format
    return AgentConfig(
        model=invocation.model,
        profile=dataclasses.replace(profile, shell_working_dir=None),
        backend=recipe(invocation.working_dir, {**given, **without}),
        response_format=None if wanted is None else wanted["schema"],
    )


class _Assistant(EventSink):
    """Sends each message of the agent at the top as a whole."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._text: list[str] = []
        self.turns = 0

    async def show(self, envelope: Envelope) -> None:
        if envelope.origin != TOP:
            return
        match envelope.event:
            case TextAdded(text=text):
                self._text.append(text)
            case ModelRetry():
                self._text.clear()
            case ModelFinished():
                self.turns += 1
                text = "".join(self._text)
                self._text.clear()
                if text.strip():
                    await self._sender.send_assistant_message([text])


def _usage(result: RunResult) -> dict[str, Any]:
    used = result.usage
    tokens_in, tokens_out = used.get("input_tokens", 0), used.get("output_tokens", 0)
    return {
        "usage": {
            "inputTokens": tokens_in,
            "outputTokens": tokens_out,
            "totalTokens": tokens_in + tokens_out,
        },
        "total_cost_usd": used.get("cost_usd", 0.0),
    }


def _answer(
    result: RunResult, metadata: Mapping[str, Any], wanted: Mapping[str, Any] | None
) -> dict[str, Any]:
    if result.status not in ("completed", "truncated"):
        why = result.reason or f"the run ended as {result.status}"
        if "response format" in why:
            why = f"{MISMATCH}: {why.rpartition('response format: ')[2]}"
        raise RequestFailed(why, {**metadata, "status": result.status})
    told = dict(metadata) if result.status == "completed" else {**metadata, "truncated": True}
    if wanted is None:
        return {"type": "text", "text": result.text, "metadata": told}
    return {"type": "structured_output", "structured_output": result.output, "metadata": told}
