"""Faults that a test asks the server for, and how often each has fired.

A fault fires when a request arrives whose method and path it matches. What it does then
is its kind: some spoil the answer, some the change of state that the request begins.
Knows nothing of how the server carries them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CutWebSocket",
    "Delay",
    "DestroyDuringStart",
    "DropAfter",
    "DropBefore",
    "ExpiredKey",
    "FailWith",
    "Fault",
    "FaultKind",
    "Faults",
    "GiveUp",
    "MoveProxy",
    "Quota",
    "RefuseStart",
    "SilentEvents",
    "Status",
    "StuckIn",
    "Truncate",
]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Answer with `status`, and do not execute. Bodies: the envelope, a proxy's page, none."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Literal["json", "html", "empty"] = "json"
    message: str = "Injected by the test"


@dataclass(frozen=True, kw_only=True)
class Delay:
    """Wait for so many seconds, then continue as usual."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class DropBefore:
    """Close the connection without an answer; nothing was executed."""


@dataclass(frozen=True, kw_only=True)
class DropAfter:
    """Execute, then close the connection without an answer."""


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """Give the request up after so many seconds, as a proxy does: close the connection without
    an answer, or answer with `status` and a page. What it has begun continues to its end."""

    seconds: float
    status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Truncate:
    """Execute, answer so many bytes of the body, then close the connection."""

    bytes: int


@dataclass(frozen=True, kw_only=True)
class CutWebSocket:
    """Cut the WebSocket once so many bytes of messages have gone to the client.

    1006 is a connection that is gone without a word, 1000 one that was closed properly.
    """

    bytes: int
    code: Literal[1000, 1006] = 1006


@dataclass(frozen=True, kw_only=True)
class StuckIn:
    """The change of state that the request begins does not leave `state` until the server's
    `release()`. One that is being made is not deleted as long, as with the service.

    A change that does not come through `state` continues.
    """

    state: str


@dataclass(frozen=True, kw_only=True)
class FailWith:
    """The change of state that the request begins ends in `state` instead.

    A sandbox of which a snapshot is taken is as it was before, as with the service, and tells no
    `reason`: there is no snapshot.
    """

    state: Literal["error", "build_failed"]
    reason: str
    recoverable: bool = False


@dataclass(frozen=True, kw_only=True)
class RefuseStart:
    """Make the sandbox, then answer 400 with `reason`: it could not be started, and is there."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class DestroyDuringStart:
    """The sandbox is destroyed in the middle of the change of state that the request begins."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Refuse as the service does when the organisation has used up what it may use."""


@dataclass(frozen=True, kw_only=True)
class ExpiredKey:
    """Refuse the key as one that has expired."""


@dataclass(frozen=True, kw_only=True)
class MoveProxy:
    """Before the request is served, the toolbox moves to another URL; the old one is 404."""


@dataclass(frozen=True, kw_only=True)
class SilentEvents:
    """The change of state that the request begins sends no events."""


FaultKind: TypeAlias = (
    Status
    | Delay
    | DropBefore
    | DropAfter
    | GiveUp
    | Truncate
    | CutWebSocket
    | StuckIn
    | FailWith
    | RefuseStart
    | DestroyDuringStart
    | Quota
    | ExpiredKey
    | MoveProxy
    | SilentEvents
)


@dataclass(kw_only=True, eq=False)
class Fault:
    """One fault that was asked for; `fired` counts the requests that met it."""

    match: re.Pattern[str]
    kind: FaultKind
    times: int | None
    after: int
    seen: int = 0
    fired: int = 0

    def meets(self, line: str) -> bool:
        """Whether it fires for the request `line`, counted either way."""
        if not self.match.fullmatch(line):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True


class Faults:
    """The faults of one server, in the order they were added."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, *, match: str, kind: FaultKind, times: int | None = 1, after: int = 0) -> Fault:
        """Let `kind` happen to requests that `match`; returns the fault, to ask its `fired`.

        `match` is a regular expression for the whole of, say, `POST /api/sandbox` or
        `GET /toolbox/.*/files/info`. `times` is how often (None: always), `after` how many
        matching requests go free first.
        """
        fault = Fault(match=re.compile(match), kind=kind, times=times, after=after)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all of them."""
        self._faults.clear()

    def meeting(self, method: str, path: str) -> tuple[FaultKind, ...]:
        """What happens to this request; asking counts it."""
        line = f"{method} {path}"
        return tuple(fault.kind for fault in self._faults if fault.meets(line))
