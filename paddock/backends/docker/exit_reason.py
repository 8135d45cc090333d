"""Why a container exited, from the engine's events."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.docker.engine import Engine

__all__ = ["describe", "exit_reason"]

ANSWER_DEADLINE = 5.0
"""Seconds that asking for the reason may take: callers wait for it."""
OOM_SPAN = 5.0
"""Seconds between what the kernel killed for lack of memory and the end of the container, if it
was its first process; an engine tells the two within 0.1 s. A child's death ends none."""
KILLED = 128 + signal.SIGKILL


async def exit_reason(engine: Engine, container: str, *, made: float, said: str) -> str:
    """A sentence for `SandboxLost`, which never fails.

    `made` is when the container was made (seconds since the epoch), `said` what its first
    process complained of.
    """
    try:
        async with asyncio.timeout(ANSWER_DEADLINE):
            events = await engine.call(
                "asking how a container ended", _events, engine, container, made
            )
    except (EngineError, TimeoutError):
        return "the Docker Engine is gone"
    return describe(events, said) or await _engine_restarted(engine, container)


def describe(events: Sequence[Mapping[str, Any]], said: str) -> str | None:
    """The same from the engine's events, which may tell of no end."""
    died = next((event for event in events if event["Action"] == "die"), None)
    if died is None:
        return None
    code = int(died["Actor"]["Attributes"].get("exitCode", -1))
    signals = {
        event["Actor"]["Attributes"].get("signal") for event in events if event["Action"] == "kill"
    }
    if str(code - 128) in signals:
        return f"its container was killed or removed from outside (exit {code})"
    ooms = [event["timeNano"] for event in events if event["Action"] == "oom"]
    if code == KILLED and any(abs(died["timeNano"] - oom) < OOM_SPAN * 1e9 for oom in ooms):
        return "its memory ran out (OOM) and the kernel killed it"
    ended = f"its container ended (exit {code})"
    return f"{ended}: {said}" if said else ended


def _events(engine: Engine, container: str, made: float) -> list[Mapping[str, Any]]:
    found = engine.client.events(
        since=int(made) - 1,
        until=int(time.time()) + 1,
        filters={"container": container, "type": "container"},
        decode=True,
    )
    return list(found)


async def _engine_restarted(engine: Engine, container: str) -> str:
    with contextlib.suppress(EngineError):
        found = await engine.call(
            "looking for a container", engine.client.inspect_container, container
        )
        if found["State"]["Running"]:
            return "the Docker Engine was restarted and dropped the stream to its first process"
    return "the Docker Engine was restarted, and the container ended with it"
