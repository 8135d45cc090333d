"""Where a model's `old_string` is in a text, and what to put there. Pure functions.

Three ways of looking, each tried only when the one before found nothing: the very
text; whole lines, blind to white space at their ends; whole lines, blind to their
indentation as long as the block keeps its shape. A match has to be the only one.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["EditError", "Edited", "Match", "replace_once"]

_BLANKS = " \t"


class Match(enum.StrEnum):
    """How the text was found."""

    EXACT = "exact match"
    TRAILING_SPACE = "match without trailing whitespace"
    INDENTATION = "match without indentation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """The new text, and how the old one was found."""

    text: str
    match: Match


class EditError(ValueError):
    """The text was not found, or not only once; the message is for the model."""


@dataclass(frozen=True, slots=True)
class _Place:
    """`replacement` goes where text[start:end] is."""

    start: int
    end: int
    replacement: str


def replace_once(text: str, old: str, new: str) -> Edited:
    """`text` with its one occurrence of `old` replaced by `new`; raises `EditError`.

    Lines that end in CR LF may be matched by text that has plain newlines; what is
    put there takes the line ends of its surroundings. Nothing else changes: neither
    other line ends nor a missing newline at the end.
    """
    if not old:
        raise EditError("old_string is empty.")
    if old == new:
        raise EditError("old_string and new_string are the same.")
    if "\r\n" in text and "\r" not in old + new:
        return _replace_in_crlf(text, old, new)
    place, match = _find(text, old, new)
    return Edited(text=text[: place.start] + place.replacement + text[place.end :], match=match)


def _replace_in_crlf(text: str, old: str, new: str) -> Edited:
    """Match as if every line end were a newline, then go back to the real ones."""
    place, match = _find(text.replace("\r\n", "\n"), old, new)
    lines = text.split("\n")
    plain = [line.removesuffix("\r") for line in lines[:-1]] + lines[-1:]
    start, end = _real_offset(lines, plain, place.start), _real_offset(lines, plain, place.end)
    after = text.find("\n", start)
    nearest = after if after >= 0 else text.rfind("\n")
    ending = "\r\n" if text[nearest - 1 : nearest] == "\r" else "\n"
    replacement = place.replacement.replace("\n", ending)
    return Edited(text=text[:start] + replacement + text[end:], match=match)


def _real_offset(lines: Sequence[str], plain: Sequence[str], offset: int) -> int:
    """The offset in the lines as they are of an `offset` in the lines without their CRs."""
    added = 0
    for line, bare in zip(lines, plain, strict=True):
        if offset <= len(bare):
            break
        offset -= len(bare) + 1
        added += len(line) + 1
    return added + offset


def _find(text: str, old: str, new: str) -> tuple[_Place, Match]:
    finders: dict[Match, Callable[[str, str, str], list[_Place]]] = {
        Match.EXACT: _exact,
        Match.TRAILING_SPACE: _without_trailing_space,
        Match.INDENTATION: _without_indentation,
    }
    for match, finder in finders.items():
        places = finder(text, old, new)
        if len(places) == 1:
            return places[0], match
        if places:
            raise EditError(
                f"old_string appears {len(places)} times (must be unique). Add more context."
            )
    raise EditError("old_string was not found. Read the file again and copy the text as it is.")


def _exact(text: str, old: str, new: str) -> list[_Place]:
    """Every occurrence, overlapping ones too: replacing one of those would be a guess."""
    places = []
    start = text.find(old)
    while start >= 0:
        places.append(_Place(start, start + len(old), new))
        start = text.find(old, start + 1)
    return places


def _without_trailing_space(text: str, old: str, new: str) -> list[_Place]:
    return _matching_lines(
        text,
        _lines_of(old),
        key=lambda line: line.rstrip(_BLANKS),
        adapt=lambda _: _lines_of(new) if new else [],
    )


def _without_indentation(text: str, old: str, new: str) -> list[_Place]:
    wanted = _lines_of(old)

    def adapt(window: Sequence[str]) -> list[str] | None:
        indents = _indent_map(wanted, window)
        if indents is None:
            return None
        return [_reindented(line, indents) for line in _lines_of(new)] if new else []

    return _matching_lines(text, wanted, key=lambda line: line.strip(_BLANKS), adapt=adapt)


def _lines_of(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _matching_lines(
    text: str,
    wanted: Sequence[str],
    *,
    key: Callable[[str], str],
    adapt: Callable[[Sequence[str]], list[str] | None],
) -> list[_Place]:
    """The blocks of whole lines that `key` cannot tell from `wanted`.

    `adapt` gives the new lines of such a block, or None to refuse it after all.
    """
    sought = [key(line) for line in wanted]
    if not any(sought):
        return []  # only blank lines: everywhere and nowhere
    lines = text.split("\n")
    keys = [key(line) for line in lines]
    starts = _line_starts(lines)
    places = []
    for first in range(len(lines) - len(sought) + 1):
        past = first + len(sought)
        if keys[first] != sought[0] or keys[first:past] != sought:
            continue
        adapted = adapt(lines[first:past])
        if adapted is not None:
            places.append(_block(text, starts[first], starts[past] - 1, adapted))
    return places


def _block(text: str, start: int, end: int, new_lines: Sequence[str]) -> _Place:
    """The lines text[start:end] replaced; with no new lines a newline goes along with them."""
    if not new_lines and end < len(text):
        return _Place(start, end + 1, "")
    if not new_lines:  # the last lines: it is the newline that led to them
        return _Place(max(start - 1, 0), end, "")
    return _Place(start, end, "\n".join(new_lines))


def _line_starts(lines: Sequence[str]) -> list[int]:
    """The offset of every line, and where one more would start."""
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _indent_of(line: str) -> str:
    return line[: len(line) - len(line.lstrip(_BLANKS))]


def _indent_map(wanted: Sequence[str], window: Sequence[str]) -> dict[str, str] | None:
    """The file's indentation for each one that the model used; None if the shapes differ."""
    indents: dict[str, str] = {}
    for mine, theirs in zip(wanted, window, strict=True):
        if not mine.strip(_BLANKS):
            continue
        if indents.setdefault(_indent_of(mine), _indent_of(theirs)) != _indent_of(theirs):
            return None
    widths = [len(indents[indent]) for indent in sorted(indents, key=len)]
    same_shape = all(a < b for a, b in itertools.pairwise(widths))
    return indents if same_shape else None


def _reindented(line: str, indents: dict[str, str]) -> str:
    """`line` with its indentation translated: from the nearest one that was matched."""
    indent, body = _indent_of(line), line.lstrip(_BLANKS)
    if not body:
        return ""
    known = [mine for mine in indents if indent.startswith(mine)]
    mine = max(known, key=len) if known else min(indents, key=len)
    theirs = indents[mine]
    if known:
        return theirs + _in_style_of(theirs, indent.removeprefix(mine), mine) + body
    missing = _in_style_of(theirs, mine.removeprefix(indent), mine)
    return theirs.removesuffix(missing) + body


def _in_style_of(theirs: str, spaces: str, mine: str) -> str:
    """`spaces` as tabs where the file has tabs for the model's spaces and it comes out even."""
    if theirs.strip("\t") or (mine + spaces).strip(" ") or not theirs:
        return spaces
    unit = len(mine) // len(theirs)
    return "\t" * (len(spaces) // unit) if unit and len(spaces) % unit == 0 else spaces
