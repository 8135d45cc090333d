"""The file of a recording: what was asked of each sandbox, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import os
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError, PaddockError
from paddock.testing.recorded.checks import check_about, check_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Call", "Cassette", "CassetteMismatch", "Track"]

VERSION = 1
LOOSELY = frozenset({"env", "keep", "streamed", "user"})
"""Arguments that do not matter for a loose replay."""


HINT = "If the new calls are right, record again: mode='record', or PADDOCK_CASSETTES=record"


class CassetteMismatch(PaddockError):
    """A replayed sandbox was asked for something else than was recorded; the message has a diff."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{HINT}"


@dataclasses.dataclass(slots=True)
class Call:
    """Something that was asked. `answer` is None until there is one, and if it never came."""

    name: str
    args: dict[str, Any]
    answer: Any = None
    played: bool = False

    def shown(self) -> list[str]:
        """Return lines for a diff."""
        return json.dumps({"call": self.name, **self.args}, indent=1, sort_keys=True).splitlines()

    def key(self) -> str:
        """Return what calls have in common that are the same for a loose replay."""
        args = {key: value for key, value in self.args.items() if key not in LOOSELY}
        return json.dumps([self.name, args], sort_keys=True)


class Track:
    """The calls of one sandbox."""

    def __init__(self, about: dict[str, Any], *, strict: bool, source: str) -> None:
        self.about = about
        self.calls: list[Call] = []
        self._strict = strict
        self._source = source
        self._next = 0
        self._by_key: dict[str, deque[Call]] | None = None
        self._failed = False

    def add(self, name: str, args: dict[str, Any]) -> Call:
        """Record a call, which gets its answer later."""
        self.calls.append(Call(name, args))
        return self.calls[-1]

    def play(self, name: str, args: dict[str, Any]) -> Any:
        """Return the recorded answer. Raise `CassetteMismatch` if none matches."""
        call = self._strictly(name, args) if self._strict else self._loosely(name, args)
        call.played = True
        return call.answer

    def _strictly(self, name: str, args: dict[str, Any]) -> Call:
        if self._next == len(self.calls):
            raise self._mismatch(Call(name, args), None)
        call = self.calls[self._next]
        if call.name != name or call.args != args:
            raise self._mismatch(Call(name, args), call)
        self._next += 1
        return call

    def _loosely(self, name: str, args: dict[str, Any]) -> Call:
        if self._by_key is None:
            self._by_key = defaultdict(deque)
            for call in self.calls:
                self._by_key[call.key()].append(call)
        asked = Call(name, args)
        found = self._by_key.get(asked.key())
        if not found:
            raise self._mismatch(asked, self._nearest(asked))
        return found.popleft() if len(found) > 1 else found[0]

    def _nearest(self, asked: Call) -> Call | None:
        text = "\n".join(asked.shown())
        return max(
            self.calls,
            key=lambda call: difflib.SequenceMatcher(None, text, "\n".join(call.shown())).ratio(),
            default=None,
        )

    def _mismatch(self, asked: Call, recorded: Call | None) -> CassetteMismatch:
        self._failed = True
        if recorded is None:
            told = "\n".join(asked.shown())
            return CassetteMismatch(f"{self._source}: nothing more is recorded, but:\n{told}")
        diff = difflib.unified_diff(
            recorded.shown(), asked.shown(), "recorded", "asked for", lineterm="", n=100
        )
        return CassetteMismatch("\n".join([f"{self._source}: another call is recorded:", *diff]))

    def excuse(self) -> None:
        """Have the replay count as one that went wrong already."""
        self._failed = True

    def require_played(self) -> None:
        """Raise `CassetteMismatch` if a strict replay that went well has left something out."""
        left = [call for call in self.calls if not call.played]
        if self._strict and left and not self._failed:
            told = "\n".join(left[0].shown())
            raise CassetteMismatch(
                f"{self._source}: {len(left)} recorded calls were not made, first:\n{told}"
            )


class Cassette:
    """All sandboxes of a recording, in the order in which they were made."""

    def __init__(self, path: Path, *, strict: bool) -> None:
        self._path = path
        self._strict = strict
        self._tracks: dict[int, Track] = {}
        self._saving = threading.Lock()

    def add(self, number: int, about: dict[str, Any]) -> Track:
        """Record the sandbox with that number."""
        self._tracks[number] = Track(about, strict=self._strict, source=str(self._path))
        return self._tracks[number]

    def find(self, number: int) -> Track:
        """Return the sandbox of a replay with that number; a loose one begins again at the end."""
        total = len(self._tracks)
        if number >= total and (self._strict or not total):
            raise CassetteMismatch(
                f"{self._path}: {total} sandboxes are recorded, and one more is made"
            )
        return self._tracks[number % total]

    def save(self) -> None:
        """Write all, in one step. Call it in a thread; sandboxes may close at the same time."""
        with self._saving:
            self._save()

    def _save(self) -> None:
        lines: list[dict[str, Any]] = [{"cassette": VERSION}]
        for number, (_, track) in enumerate(sorted(self._tracks.items())):
            lines.append({"sandbox": number, "about": track.about})
            lines += [
                {"sandbox": number, "call": call.name, "args": call.args, "answer": call.answer}
                for call in track.calls
            ]
        lines.append({"end": len(lines)})
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
            draft.replace(self._path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()

    def load(self) -> None:
        """Read all. Raise `ConfigError` for a file that is no whole cassette."""
        lines = [*self._lines()]
        if not lines or lines[0].get("cassette") != VERSION:
            raise ConfigError(f"{self._path}: not a cassette of version {VERSION}")
        if lines[-1] != {"end": len(lines) - 1}:
            raise ConfigError(
                f"{self._path}: the end is missing after line {len(lines)}; record it again"
            )
        for number, line in enumerate(lines[1:-1], 2):
            try:
                self._take(line)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise ConfigError(f"{self._path}:{number}: not a call: {error!r}") from None

    def _take(self, line: dict[str, Any]) -> None:
        if "about" in line:
            self.add(len(self._tracks), check_about(line["about"]))
        else:
            answer = check_answer(line["call"], line["answer"])
            self._tracks[line["sandbox"]].calls.append(
                Call(line["call"], dict(line["args"]), answer)
            )

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._path}: the cassette cannot be read: {error}") from None
        for number, line in enumerate(text.splitlines(), 1):
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                told = "the cassette is torn; record it again"
                raise ConfigError(f"{self._path}:{number}: {told}")
            yield found
