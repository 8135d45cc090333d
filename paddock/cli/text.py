"""Text from strangers, made safe for a terminal.

What a sandbox prints may hold sequences that move the cursor, rename the window,
paste into the clipboard, or show a command in another order than it is. Nothing
but printable characters, line ends and tabs goes through as it is.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["one_line", "plain"]

_SUSPECT = re.compile(r"[^\n\t\x20-\x7e]")
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
"""Control, format (bidi overrides and zero-width among them), private, lone surrogate,
unassigned, and the two separators that some terminals break lines at."""


def plain(text: str) -> str:
    """`text` with everything that does not print written out, as in ``\\x1b`` or ``\\u202e``."""
    return _SUSPECT.sub(_written_out, text.replace("\r\n", "\n"))


def one_line(text: str, width: int) -> str:
    """The beginning of `text` on one line of at most `width` characters."""
    line = " ".join(plain(text[: 4 * width]).split())
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"


def _written_out(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
