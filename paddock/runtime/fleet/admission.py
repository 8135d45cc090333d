"""When tasks may begin: a burst of failures with one cause pauses the batch.

Failures of the infrastructure with the same fingerprint, with no success between them, are an
outage and nobody's own. Then nothing begins but one probe at a time, later and later, until one
succeeds. Plain data and decisions, no I/O; times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Admission"]

BURST = 3
"""Failures with one fingerprint. Fewer than the tries of a task, so that an outage alone never
fails one that runs by itself."""

BACKOFF = 0.5
"""Seconds until the first probe; each further one doubles them."""

BACKOFF_MAX = 15.0
"""An engine that comes back is noticed within this."""


@dataclass(slots=True, kw_only=True)
class Admission:
    """Admits tasks, or pauses. Gives up `patience` seconds after a pause began."""

    patience: float

    cause: str | None = None
    """The fingerprint of the failures, while paused."""
    since: float = 0.0
    _streak: list[tuple[str, int]] = field(default_factory=list)
    _fingerprint: str | None = None
    _probing: bool = False
    _rounds: int = 0
    _not_before: float = 0.0

    @property
    def paused(self) -> bool:
        return self.cause is not None

    @property
    def suspicious(self) -> bool:
        """Whether the last attempt that said something about the infrastructure failed."""
        return bool(self._streak)

    def wait(self, now: float) -> float | None:
        """Return the seconds until the next task may begin: 0 for now, None until a probe ends."""
        if not self.paused:
            return 0.0
        return None if self._probing else max(0.0, self._not_before - now)

    def admit(self) -> None:
        """A task begins; while paused it is the probe."""
        self._probing = self.paused

    def withdraw(self) -> None:
        """The probe ended and says nothing about the cause."""
        self._probing = False

    def on_good(self) -> bool:
        """Note that the infrastructure has worked; return whether that ends a pause."""
        ended = self.paused
        self._streak.clear()
        self.cause = self._fingerprint = None
        self._probing, self._rounds = False, 0
        return ended

    def on_failed(
        self, fingerprint: str, attempt: tuple[str, int], now: float, *, alone: bool, down: bool
    ) -> bool:
        """Note a failure of the infrastructure; return whether it is part of an outage.

        If so, no attempt of the streak is to be counted, see `take_streak`. It takes failures of
        several tasks, unless one is enough `alone`, because nothing of it had run. If it is known
        that the engine is `down`, this one is enough.
        """
        if self.paused:
            if self._probing:
                self._later(now)
            return True
        if fingerprint != self._fingerprint:
            self._fingerprint = fingerprint
            self._streak.clear()
        self._streak.append(attempt)
        several = alone or len({key for key, _ in self._streak}) > 1
        if not down and (len(self._streak) < BURST or not several):
            return False
        self.cause, self.since = fingerprint, now
        self._later(now)
        return True

    def take_streak(self) -> list[tuple[str, int]]:
        """Return the attempts that failed before the pause began, once."""
        taken, self._streak = self._streak, []
        return taken

    def hopeless(self, now: float) -> bool:
        """Return whether a pause has lasted for longer than our patience."""
        return self.paused and now - self.since >= self.patience

    def _later(self, now: float) -> None:
        self._probing = False
        self._not_before = now + min(BACKOFF * 2.0**self._rounds, BACKOFF_MAX)
        self._rounds = min(self._rounds + 1, 16)
