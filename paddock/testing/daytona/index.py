"""The index that lists are read from, which lags behind what the sandboxes are.

Knows nothing of what a sandbox is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.sandbox import Sandbox

__all__ = ["Index", "Listed"]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A sandbox as the index has it."""

    item: dict[str, Any]
    settings: dict[str, Any]
    labels: dict[str, str]
    state: str
    active_at: float
    since: float

    @property
    def id(self) -> str:
        return str(self.item["id"])

    @property
    def name(self) -> str:
        return str(self.item["name"])

    @property
    def created_at(self) -> str:
        return str(self.item["createdAt"])


@dataclass(kw_only=True, eq=False)
class Index:
    """What sandboxes looked like `lag` seconds ago, by `seconds`; `item` is how they are listed."""

    lag: float
    seconds: Callable[[], float]
    item: Callable[[Sandbox], dict[str, Any]]
    _history: dict[str, list[Listed]] = field(default_factory=dict)

    def note(self, sandbox: Sandbox) -> None:
        """Take in what `sandbox` has become; to be called after each change of it."""
        now = Listed(
            item=self.item(sandbox),
            settings=dict(sandbox.settings),
            labels=dict(sandbox.labels),
            state=sandbox.state,
            active_at=sandbox.active_at,
            since=self.seconds(),
        )
        self._known(sandbox.id)
        self._history.setdefault(sandbox.id, []).append(now)

    def listed(self) -> list[Listed]:
        """The sandboxes as the index knows them now, without those that were destroyed."""
        found = []
        for identity in list(self._history):
            known = self._known(identity)
            if known is not None and known.state != "destroyed":
                found.append(known)
            elif known is not None and len(self._history[identity]) == 1:
                del self._history[identity]
        return found

    def _known(self, identity: str) -> Listed | None:
        """What is known of one by now; what was known before is forgotten."""
        until = self.seconds() - self.lag
        history = self._history.get(identity, [])
        known = sum(each.since <= until for each in history)
        if not known:
            return None
        self._history[identity] = history[known - 1 :]
        return self._history[identity][0]
