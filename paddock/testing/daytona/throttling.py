"""The service's rate limits, and the headers that report them.

Knows nothing of what is asked.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Throttler", "Throttles"]


@dataclass(frozen=True, kw_only=True)
class Throttler:
    """At most `limit` requests that `match` in each window of so many `seconds`.

    `match` is a regular expression for the whole of, say, `POST /api/sandbox`; `name` is what the
    headers call the limit.
    """

    name: str
    match: str
    limit: int
    seconds: float


@dataclass(kw_only=True, eq=False)
class _Window:
    """The window of one limit. The next one begins with the first request after its end."""

    throttler: Throttler
    begun: float = -math.inf
    count: int = 0

    def take(self, now: float) -> bool:
        """Count a request; return whether it is one too many."""
        if now - self.begun >= self.throttler.seconds:
            self.begun, self.count = now, 0
        self.count += 1
        return self.count > self.throttler.limit

    def headers(self, now: float) -> dict[str, str]:
        left = max(self.throttler.limit - self.count, 0)
        name = self.throttler.name
        return {
            f"X-RateLimit-Limit-{name}": str(self.throttler.limit),
            f"X-RateLimit-Remaining-{name}": str(left),
            f"X-RateLimit-Reset-{name}": str(self.left(now)),
        }

    def left(self, now: float) -> int:
        return max(math.ceil(self.begun + self.throttler.seconds - now), 0)


@dataclass(kw_only=True, eq=False)
class Throttles:
    """All limits of one server."""

    seconds: Callable[[], float]
    windows: list[_Window] = field(default_factory=list)

    @classmethod
    def of(cls, throttlers: Sequence[Throttler], seconds: Callable[[], float]) -> Throttles:
        return cls(seconds=seconds, windows=[_Window(throttler=each) for each in throttlers])

    def count(self, method: str, path: str) -> tuple[bool, Mapping[str, str]]:
        """Count a request. Return whether it is refused, and the headers of its answer."""
        now = self.seconds()
        headers: dict[str, str] = {}
        refused = False
        for window in self.windows:
            if not re.fullmatch(window.throttler.match, f"{method} {path}"):
                continue
            too_many = window.take(now)
            headers |= window.headers(now)
            if too_many:
                refused = True
                headers[f"Retry-After-{window.throttler.name}"] = str(window.left(now))
        return refused, headers
