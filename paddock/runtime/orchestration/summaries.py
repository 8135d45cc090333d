"""What a run has taken: its tokens and what they cost, and the time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import ModelFinished, ModelRetry, ModelStarted, ToolFinished
from paddock.runtime.core.model import Usage
from paddock.runtime.orchestration.roles import CALL_AGENT

if TYPE_CHECKING:
    import datetime as dt

    from paddock.runtime.core.emitter import Envelope, Origin
    from paddock.runtime.orchestration.stream import WireEvent

__all__ = ["Summaries", "usage_fields"]


@dataclass
class _Timing:
    calls: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Summaries(EventSink):
    """Counts the events of a run and of all agents below it."""

    usage: Usage = field(default_factory=Usage)
    finish_reason: str = ""
    """Of the last answer, in the service's words."""
    _agents: dict[str, tuple[str, Usage]] = field(default_factory=dict)
    """The model of each agent by its path, and what it took."""
    _tools: defaultdict[str, _Timing] = field(default_factory=lambda: defaultdict(_Timing))
    _model: _Timing = field(default_factory=_Timing)
    _begun: dict[Origin, dt.datetime] = field(default_factory=dict)
    """When each running model call began."""
    _retries: int = 0
    _timed_out: bool = False

    def keep(self, envelope: Envelope) -> None:
        match envelope.event:
            case ModelStarted():
                self._begun[envelope.origin] = envelope.at
            case ModelFinished() as finished:
                self._count(envelope, finished)
            case ModelRetry():
                self._retries += 1
            case ToolFinished() as finished:
                timing = self._tools[finished.tool_name]
                timing.calls += 1
                timing.seconds += finished.duration
                self._timed_out |= finished.metadata.get("error") == "TimeoutError"

    def _count(self, envelope: Envelope, finished: ModelFinished) -> None:
        began = self._begun.pop(envelope.origin, envelope.at)
        self._model.calls += 1
        self._model.seconds += (envelope.at - began).total_seconds()
        self.usage += finished.usage
        self.finish_reason = finished.finish_reason
        path = "/".join(envelope.origin.agent_path)
        _, before = self._agents.get(path, ("", Usage()))
        self._agents[path] = finished.model, before + finished.usage

    def cost(self) -> WireEvent | None:
        """Return the event of what the models took; None if that was nothing."""
        if self.usage == Usage():
            return None
        agents = {
            path: {"model": model, **usage_fields(usage), "usd": usage.cost_usd}
            for path, (model, usage) in self._agents.items()
        }
        data = {
            "agents": agents,
            "totalPromptTokens": self.usage.input_tokens,
            "totalCompletionTokens": self.usage.output_tokens,
            "totalTokens": self.usage.input_tokens + self.usage.output_tokens,
            "totalUsd": self.usage.cost_usd,
        }
        return {"type": "data-cost-summary", "data": data}

    def latency(self, seconds: float) -> WireEvent:
        """Return the event of what took how long in a run of so many `seconds`."""
        agents = self._tools.get(CALL_AGENT, _Timing()).seconds
        tools = sum(each.seconds for name, each in self._tools.items() if name != CALL_AGENT)
        phases = {
            "llmCalls": self._model.calls,
            "llmTimeMs": _ms(self._model.seconds),
            "toolTimeMs": _ms(tools),
            "subAgentTimeMs": _ms(agents),
        }
        timings = {
            name: {"calls": each.calls, "totalMs": _ms(each.seconds)}
            for name, each in self._tools.items()
        }
        data = {
            "totalDurationMs": _ms(seconds),
            "phases": phases,
            "retryCount": self._retries,
            "toolTimings": timings,
            "hadTimeout": self._timed_out,
        }
        return {"type": "data-latency-summary", "data": data}


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Return tokens as events have them."""
    return {
        "promptTokens": usage.input_tokens,
        "completionTokens": usage.output_tokens,
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheCreationInputTokens": usage.cache_write_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
