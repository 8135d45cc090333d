"""Answers of a model as Markdown on a terminal, a block at a time as they come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from rich.markdown import Markdown

from paddock.cli.text import plain

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["Answer", "Blocks"]

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
DEEPEST = 16
"""Levels of lists and quotes: a parser of CommonMark drops what is below 20."""


class Answer(Markdown):
    """Markdown of a stranger's: what it says is all shown.

    HTML is text, so that ``List<String>`` does not lose its half, and the address of a link stands
    beside its words instead of behind them. What is nested too deeply to be laid out is text, too.
    """

    def __init__(self, text: str) -> None:
        super().__init__("", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
        self.markup = text
        self.parsed = parser.parse(text)
        if any(token.level > DEEPEST for token in self.parsed):
            self.parsed = MarkdownIt("zero").parse(text)
        for token in self.parsed:
            for each in (token, *(token.children or ())):
                _make_plain(each)


def _make_plain(token: Token) -> None:
    """Write out what does not print: an entity such as ``&#x202e;`` is a character by now."""
    token.content = plain(token.content)
    token.attrs = {
        name: plain(value) if isinstance(value, str) else value
        for name, value in token.attrs.items()
    }


class Blocks:
    """Cuts text that comes in pieces where a block of Markdown ends: at an empty line that is in
    no code, and before a line that continues nothing."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._partial = ""
        self._fence = ""
        """The fence that the code ends with in which the last line is."""

    def feed(self, text: str) -> list[str]:
        """Return the blocks that are complete with this piece."""
        *lines, self._partial = (self._partial + text).split("\n")
        found = []
        for line in lines:
            if self._begins_block(line):
                found.append(self._taken())
            self._lines.append(line)
            self._note_fence(line)
        return found

    def finish(self) -> list[str]:
        """Return the blocks that are left, and begin anew."""
        found = self.feed("\n")
        self._fence = ""
        return [*found, self._taken()]

    def _begins_block(self, line: str) -> bool:
        after_empty = bool(self._lines) and not self._lines[-1].strip()
        return after_empty and not self._fence and not line[:1].isspace() and bool(line)

    def _taken(self) -> str:
        block = "\n".join(self._lines).strip("\n")
        self._lines.clear()
        return block

    def _note_fence(self, line: str) -> None:
        match = FENCE.fullmatch(line)
        if match is None:
            return
        mark, rest = match.groups()
        if not self._fence:
            self._fence = mark if "`" not in rest else ""
        elif mark.startswith(self._fence) and not rest.strip():
            self._fence = ""
