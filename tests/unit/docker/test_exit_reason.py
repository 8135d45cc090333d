"""What is told of a container's end, from an engine's events."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.backends.docker.containers.exit_reason import describe

OOM = "its memory ran out (OOM) and the kernel killed it"


def event(action: str, second: float, **attributes: str) -> dict[str, Any]:
    return {
        "Action": action,
        "timeNano": int(second * 1e9),
        "Actor": {"Attributes": {"name": "paddock-x", **attributes}},
    }


START = [event("create", 0), event("start", 0.2)]


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        ([event("oom", 9.95), event("die", 10, exitCode="137")], OOM),
        ([event("die", 10, exitCode="137"), event("oom", 10.02)], OOM),
        (
            [
                *(event("kill", 1, signal="1"), event("oom", 9.95)),
                event("die", 10, exitCode="137"),
            ],
            OOM,
        ),
        (
            [
                *(event("oom", 9.9), event("kill", 9.95, signal="9")),
                event("die", 10, exitCode="137"),
            ],
            "its container was killed or removed from outside (exit 137)",
        ),
        (
            [
                *(event("oom", 9.9), event("kill", 9.95, signal="15")),
                event("die", 10, exitCode="143"),
            ],
            "its container was killed or removed from outside (exit 143)",
        ),
        ([event("oom", 1), event("die", 10, exitCode="137")], "its container ended (exit 137)"),
        ([event("oom", 9.9), event("die", 10, exitCode="1")], "its container ended (exit 1)"),
        ([event("oom", 9.9)], None),
    ],
)
def test_memory_is_the_cause_only_of_the_first_process_that_it_killed(
    events: list[dict[str, Any]], cause: str | None
) -> None:
    assert describe([*START, *events], "") == cause


def test_what_the_first_process_complained_of_is_told() -> None:
    events = [*START, event("die", 10, exitCode="1")]
    assert describe(events, "Traceback") == "its container ended (exit 1): Traceback"
