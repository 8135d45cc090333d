"""File names on their way to the model and back.

A name may hold newlines, bytes that are not UTF-8 (surrogate escapes, here) or
characters that cannot be seen. Such a name is shown quoted, as git does:
``"a\\nb\\xff"``. What is shown can be given back to any tool. This module touches
no file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import PurePosixPath

__all__ = ["parse_path", "show_path"]

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_PLAIN = {shown: plain for plain, shown in _ESCAPES.items()}
_ESCAPED = re.compile(r'\\(?:x[89a-f][0-9a-f]|u[0-9a-f]{4}|U[0-9a-f]{8}|[ntr"\\])')


def show_path(path: str | PurePosixPath) -> str:
    """`path` as printable text on one line; `parse_path` gives the path back."""
    name = str(path)
    if name.isprintable() and not name.startswith('"') and name == name.strip():
        return name
    return '"' + "".join(map(_shown, name)) + '"'


def parse_path(shown: str) -> str:
    """The path that `show_path` showed; text that is not in quotes is taken as it is."""
    if len(shown) < 2 or not (shown.startswith('"') and shown.endswith('"')):
        return shown
    return _ESCAPED.sub(_unescape, shown[1:-1])


def _shown(char: str) -> str:
    code = ord(char)
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _unescape(match: re.Match[str]) -> str:
    escape = match[0]
    if escape in _PLAIN:
        return _PLAIN[escape]
    kind, digits = escape[1], escape[2:]
    return chr(int(digits, 16) + (0xDC00 if kind == "x" else 0))
