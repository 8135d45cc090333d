"""Finding many words in one pass, in time that is linear in the text whatever it holds.

An Aho-Corasick automaton finds them, a step a byte. Since that is slow in Python, an
expression that knows a few bytes of each word looks ahead: where it finds none of them
there is no word, and the automaton only runs around what it does find. Knows no secrets.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Report = Callable[[int, int, str], None]
    """Told of a word: where it begins, where it ends, and its name."""

__all__ = ["ROOT", "Automaton"]

ROOT = 0
"""The state in which nothing that was read may be the beginning of a word."""

_ANCHOR = 6
"""Bytes of a word that are looked for first; fewer where a word has fewer."""

_COMMON = b" etnrsaoil_dcupmfh.,()gy=b\"v':-x1#0wk/2[]TSE*qj"
"""Bytes by how often they are in text and source, the most frequent first."""

_COST = {byte: len(_COMMON) + 1 - rank for rank, byte in enumerate(_COMMON)}


class Automaton:
    """Finds `words`, whose values are their names. Immutable once it is made.

    `longest` is the length of the longest word.
    """

    def __init__(self, words: Mapping[bytes, str]) -> None:
        self.longest: int = max(map(len, words))
        self.depth: list[int] = [0]
        """How many of the bytes read last may begin a word, by state."""
        self._next: dict[int, int] = {}
        self._fail: list[int] = [ROOT]
        self._word: list[tuple[int, str] | None] = [None]
        self._anchor = min(_ANCHOR, *map(len, words))
        anchors = _anchors(words, self._anchor)
        self._anchors = re.compile(_either(anchors, self._anchor), re.DOTALL)
        for word, name in words.items():
            self._add(word, name)
        self._link()

    def is_in(self, data: bytes) -> bool:
        """False if no word is in `data`; True if one may be."""
        return self._anchors.search(data) is not None

    def scan(self, data: bytes, start: int, state: int, report: Report) -> int:
        """Read `data` from `start` on, in `state`, and return the state at its end.

        At each place where words end the longest of them is reported.
        """
        place = start
        if state != ROOT:
            place, state = self._run(data, place, place, state, report)
        while place < len(data):
            hit = self._anchors.search(data, place)
            if hit is None:
                # No word, but one may begin.
                place = max(place, len(data) - self.longest + 1)
                return self._run(data, place, len(data), ROOT, report)[1]
            place = max(place, hit.start() - self.longest + self._anchor)
            place, state = self._run(data, place, hit.start(), ROOT, report)
        return state

    def _run(
        self, data: bytes, place: int, least: int, state: int, report: Report
    ) -> tuple[int, int]:
        """A step a byte, until nothing is open beyond `least`: the place and the state then."""
        following, fail, words = self._next, self._fail, self._word
        for index in range(place, len(data)):
            byte = data[index]
            while (target := following.get(state << 8 | byte)) is None and state:
                state = fail[state]
            state = target or ROOT
            word = words[state]
            if word is not None:
                report(index + 1 - word[0], index + 1, word[1])
            elif state == ROOT and index >= least:
                return index + 1, ROOT
        return len(data), state

    def _add(self, word: bytes, name: str) -> None:
        state = ROOT
        for depth, byte in enumerate(word, 1):
            target = self._next.get(state << 8 | byte)
            if target is None:
                target = self._next[state << 8 | byte] = len(self.depth)
                self.depth.append(depth)
                self._word.append(None)
                self._fail.append(ROOT)
            state = target
        self._word[state] = (len(word), name)

    def _link(self) -> None:
        """For each state the next shorter end of what was read that may begin a word."""
        # A state's target is one deeper, and its own link leads to a shallower one.
        for edge, target in sorted(self._next.items(), key=lambda item: self.depth[item[1]]):
            state, byte = edge >> 8, edge & 255
            link = ROOT
            while state and not link:
                state = self._fail[state]
                link = self._next.get(state << 8 | byte, ROOT)
            self._fail[target] = link
            if self._word[target] is None:
                self._word[target] = self._word[link]


def _anchors(words: Iterable[bytes], length: int) -> set[bytes]:
    """Of each word `length` bytes in a row, so that few and rare bytes are their first."""
    starts: defaultdict[int, set[bytes]] = defaultdict(set)
    for word in words:
        for byte in word[: len(word) - length + 1]:
            starts[byte].add(word)
    chosen: set[bytes] = set()
    left = set(words)
    while left:
        best = max(starts, key=lambda byte: (len(starts[byte] & left) / _COST.get(byte, 1), byte))
        for word in starts[best] & left:
            place = word.index(best)
            chosen.add(word[place : place + length])
        left -= starts[best]
    return chosen


def _either(words: Iterable[bytes], depth: int) -> bytes:
    """An expression for any of `words`, all of length `depth`, that decides byte by byte."""
    by_first: defaultdict[int, list[bytes]] = defaultdict(list)
    for word in words:
        by_first[word[0]].append(word[1:])
    branches = [
        re.escape(bytes([byte])) + (_either(rests, depth - 1) if depth > 1 else b"")
        for byte, rests in sorted(by_first.items())
    ]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"
