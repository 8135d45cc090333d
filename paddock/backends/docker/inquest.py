"""How a container ended, from what its engine remembers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.engine import Engine

__all__ = ["cause_of_death"]

INQUEST = 5.0
"""Seconds that asking how a container ended may take: callers wait for the reason."""


async def cause_of_death(engine: Engine, container: str, *, made: float, said: str) -> str:
    """A sentence for `SandboxLost`, which never fails.

    `made` is when the container was made (seconds since the epoch), `said` what its first
    process complained of.
    """
    try:
        async with asyncio.timeout(INQUEST):
            events = await engine.call(
                "asking how a container ended", _events, engine, container, made
            )
    except (EngineError, TimeoutError):
        return "the Docker Engine is gone"
    actions = {event["Action"]: event for event in events}
    if "oom" in actions:
        return "its memory ran out (OOM) and the kernel killed it"
    if "die" in actions:
        code = int(actions["die"]["Actor"]["Attributes"].get("exitCode", -1))
        if "kill" in actions:
            return f"its container was killed or removed from outside (exit {code})"
        ended = f"its container ended (exit {code})"
        return f"{ended}: {said}" if said else ended
    return await _engine_restarted(engine, container)


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
