"""Reads the plain progress of a BuildKit build: steps, their output, and what failed."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.images import Output, Step
from paddock.errors import BuildFailed

if TYPE_CHECKING:
    from paddock.backends.images import ImageProgressCallback
    from paddock.redaction import Redactor

__all__ = ["FIRST", "LAST_LINES", "PlainProgress"]

FIRST = "(before the first step)"
LAST_LINES = 40
"""Lines of a failed step that its error keeps."""
VERTEX = re.compile(r"#(\d+) (.*)", re.DOTALL)
STEP = re.compile(
    r"\[(?:(?:stage-\d+|(?P<stage>\S+)) +)?(?P<number>\d+)/(?P<total>\d+)\] (?P<what>.*)"
)
METADATA = re.compile(r"\[internal\] load metadata for (?:docker\.io/(?:library/)?)?(\S+)")
OUTPUT = re.compile(r"\d+\.\d+ ?(.*)", re.DOTALL)
FAILED = "ERROR: "
SILENT = re.compile(r"sha256:[0-9a-f]{64}|DONE \S+|CACHED|\.\.\.")
"""Messages about each vertex that do not help a user."""
NOISE = re.compile(r"failed to solve(?: with frontend \S+)?: |rpc error: code = \w+ desc = ")


class PlainProgress:
    """Takes the lines of a build. What `redactor` knows is in no event and no error."""

    def __init__(self, tag: str, tell: ImageProgressCallback, redactor: Redactor) -> None:
        self._tag = tag
        self._tell = tell
        self._redactor = redactor
        self._names: dict[str, str] = {}
        self._lines: dict[str, deque[str]] = {}
        self._failed: tuple[str, str] | None = None
        """The vertex that failed first, and why."""
        self._last = ""

    def take(self, line: str) -> None:
        line = self._redactor.text(line.rstrip("\r\n"))
        match = VERTEX.fullmatch(line)
        if match is None:
            self._last = line.strip() or self._last
            return
        vertex, said = match.groups()
        if vertex not in self._names:
            self._begin(vertex, said)
        elif said.startswith(FAILED):
            self._failed = self._failed or (vertex, said.removeprefix(FAILED))
        elif not SILENT.fullmatch(said):
            self._say(vertex, said)

    def finish(self, code: int) -> None:
        """Raise `BuildFailed` or `EngineError` unless the exit code of the CLI is 0."""
        if code == 0:
            return
        reason = NOISE.sub("", self._last.removeprefix(FAILED))
        if not self._names:
            raise EngineError(f"building {self._tag}: the docker CLI failed: {reason}")
        vertex, why = self._failed or ("", reason)
        raise BuildFailed(
            self._tag,
            step=self._names.get(vertex, FIRST),
            reason=NOISE.sub("", why),
            output="\n".join(self._lines.get(vertex, ())),
        )

    def _begin(self, vertex: str, said: str) -> None:
        if match := STEP.fullmatch(said):
            self._names[vertex] = match["what"]
            number, total = int(match["number"]), int(match["total"])
            what = f"({match['stage']}) {match['what']}" if match["stage"] else match["what"]
            self._tell(Step(image=self._tag, number=number, total=total, instruction=what))
        elif match := METADATA.fullmatch(said):
            self._names[vertex] = f"FROM {match[1]}"
        else:
            self._names[vertex] = said

    def _say(self, vertex: str, said: str) -> None:
        match = OUTPUT.fullmatch(said)
        text = match[1] if match else said
        if match:
            self._lines.setdefault(vertex, deque(maxlen=LAST_LINES)).append(text)
        if text.strip():
            self._tell(Output(image=self._tag, line=text))
