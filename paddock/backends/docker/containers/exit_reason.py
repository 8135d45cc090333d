"""Why a container exited, from the engine's events.

Only the engine's clock is used, and only differences between its times: this machine's clock may
differ from it, and either may be set while a container runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.engine.client import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docker import APIClient

    from paddock.backends.docker.engine.client import Engine

__all__ = ["describe", "exit_reason"]

ANSWER_DEADLINE = 5.0
"""Seconds that asking for the reason may take: callers wait for it."""
FIRST = 1
"""A second since the epoch that comes before all that an engine remembers; 0 means now."""
OOM_SPAN = 5.0
"""Seconds between what the kernel killed for lack of memory and the end of the container, if it
was its first process; an engine tells the two within 0.1 s. A child's death ends none."""
KILLED = 128 + signal.SIGKILL


async def exit_reason(engine: Engine, container: str, *, said: str) -> str:
    """Return a sentence for `SandboxLost`; never fails.

    `container` is its id, by which it is found under another name too; `said` is what its first
    process wrote to stderr.
    """
    try:
        async with asyncio.timeout(ANSWER_DEADLINE):
            events = await engine.call(
                "asking why a container exited", _events, engine.client, container
            )
    except (EngineError, TimeoutError):
        return "the Docker Engine is gone"
    return describe(events, said) or await _engine_restarted(engine, container)


def describe(events: Sequence[Mapping[str, Any]], said: str) -> str | None:
    """Return the reason by the engine's events; None if they include no exit."""
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


def _events(client: APIClient, container: str) -> list[Mapping[str, Any]]:
    """Return what the engine remembers of a container, until the next second of its
    clock: the event of the exit may come after the end of the container's stream."""
    now = datetime.fromisoformat(client.info()["SystemTime"]).timestamp()
    found = client.events(
        since=FIRST,
        until=int(now) + 1,
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
