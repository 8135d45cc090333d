"""The time axis of a batch. Plain data and decisions, no I/O.

A batch may be stopped and resumed days later, so spans in which nothing ran are cut out.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Axis", "Gap", "concurrency"]

LEAST_GAP = 20.0
"""Seconds. Nothing runs for shorter spans while an engine restarts, and those have to be seen."""

GAP_SHARE = 0.1
"""Of the time in which something ran: a longer span without any leaves no room for the others."""

SHOWN_SHARE = 0.015
"""Of the time in which something ran: what the axis shows of a span that was cut out."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span that was cut out; it lasted for `seconds`, and `at` is where it is on the axis."""

    at: float
    seconds: float


class Axis:
    """Maps times in seconds since 1970 to seconds since the beginning, without the `gaps`."""

    def __init__(self, spans: Iterable[Span]) -> None:
        merged = _merged(spans)
        busy = sum(end - begin for begin, end in merged)
        most, shown = max(LEAST_GAP, GAP_SHARE * busy), SHOWN_SHARE * busy
        self.began = merged[0][0] if merged else 0.0
        self.gaps: list[Gap] = []
        self._from: list[float] = []
        self._cut: list[float] = []
        cut = 0.0
        for (_, end), (begin, _) in pairwise(merged):
            if begin - end <= most:
                continue
            self.gaps.append(Gap(at=end - self.began - cut, seconds=begin - end))
            cut += begin - end - shown
            self._from.append(begin)
            self._cut.append(cut)
        self.length = self.at(merged[-1][1]) if merged else 0.0

    def at(self, time: float) -> float:
        """Return where `time` is on the axis."""
        index = bisect.bisect_right(self._from, time)
        cut = self._cut[index - 1] if index else 0.0
        return max(0.0, time - self.began - cut)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def concurrency(spans: Sequence[Span], length: float, buckets: int) -> tuple[list[float], int]:
    """Return how many of `spans` there were on average in each part of the axis, and at most."""
    width = length / buckets
    sums = [0.0] * buckets
    changes: list[tuple[float, int]] = []
    for begin, end in spans:
        changes += [(begin, 1), (end, -1)]
    running, most, since = 0, 0, 0.0
    for time, change in sorted(changes):
        _add(sums, since, time, running, width)
        running, since = running + change, time
        most = max(most, running)
    return [each / width for each in sums] if width else sums, most


def _add(sums: list[float], begin: float, end: float, running: int, width: float) -> None:
    """Add `running` for the time from `begin` to `end` to the buckets that it is in."""
    if not running or not width:
        return
    index = int(begin / width)
    while begin < end and index < len(sums):
        edge = min(end, (index + 1) * width)
        sums[index] += running * (edge - begin)
        begin, index = edge, index + 1
