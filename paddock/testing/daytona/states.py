"""Which operation leads a sandbox from which state through which others to which.

Pure data and one function over it; independent of time, files and callers.
"""

from __future__ import annotations

from dataclasses import dataclass

from paddock.testing.daytona.envelope import ApiError

__all__ = ["ERRED", "Move", "plan"]

ERRED = frozenset({"error", "build_failed"})


@dataclass(frozen=True, kw_only=True)
class Move:
    """A way: the states on it, and the one at its end (None: back to where it began)."""

    through: tuple[str, ...]
    to: str | None
    desired: str | None = None  # what the sandbox says it is bound for, None as before
    at_once: bool = True  # whether the answer to the request already tells the first state


_START = Move(through=("starting",), to="started", desired="started", at_once=False)
_STOP = Move(through=("stopping",), to="stopped", desired="stopped", at_once=False)
_RESIZE = Move(through=("resizing",), to=None)
_SNAPSHOT = Move(through=("snapshotting",), to=None)
_FORK = Move(through=("forking",), to=None)

_MOVES: dict[tuple[str, str], Move] = {
    ("create", "unknown"): Move(through=("creating",), to="started", desired="started"),
    ("take", "unknown"): Move(through=(), to="started", desired="started", at_once=False),
    ("build", "unknown"): Move(
        through=("pending_build", "building_snapshot", "creating"), to="started", desired="started"
    ),
    ("start", "stopped"): _START,
    ("start", "archiving"): Move(
        through=("restoring", "starting"), to="started", desired="started", at_once=False
    ),
    ("start", "archived"): Move(
        through=("restoring", "starting"), to="started", desired="started", at_once=False
    ),
    ("start", "paused"): Move(
        through=("resuming",), to="started", desired="started", at_once=False
    ),
    ("stop", "started"): _STOP,
    ("stop", "paused"): _STOP,
    ("archive", "stopped"): Move(through=("archiving",), to="archived", desired="archived"),
    ("pause", "started"): Move(through=("pausing",), to="paused", desired="paused"),
    ("recover", "error"): _START,
    ("resize", "started"): _RESIZE,
    ("resize", "stopped"): _RESIZE,
    ("snapshot", "started"): _SNAPSHOT,
    ("snapshot", "stopped"): _SNAPSHOT,
    ("fork", "started"): _FORK,
    ("fork", "stopped"): _FORK,
}
_DESTROY = Move(through=("destroying",), to="destroyed", desired="destroyed")

_REFUSALS = {
    "start": "Sandbox is not in valid state",
    "stop": "Sandbox is not in a stoppable state",
    "archive": "Sandbox is not stopped",
    "pause": "Sandbox must be in started state to pause",
    "recover": "Sandbox is not in a recoverable state",
    "resize": "Sandbox must be in started or stopped state to resize",
    "snapshot": "Sandbox must be in started or stopped state to create a snapshot",
    "fork": "Sandbox must be in started or stopped state to fork",
}


def plan(operation: str, state: str) -> Move:
    """The way of `operation` from `state`; raises `ApiError` with the service's words."""
    if operation == "destroy":
        return _DESTROY
    move = _MOVES.get((operation, state))
    if move is None:
        erred = state in ERRED and operation in {"start", "stop", "archive"}
        raise ApiError(400, "Sandbox is in an errored state" if erred else _REFUSALS[operation])
    return move
