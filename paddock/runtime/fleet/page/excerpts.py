"""Short forms of texts and files that may be long and hostile."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_ends", "shortened", "tail_of"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
"""Sequences that colour a terminal or move its cursor; a page shows them as noise."""


def shortened(text: str, most: int) -> str:
    """Return at most `most` characters of `text` and a note, of its head and its tail."""
    text = _ESCAPES.sub("", text)
    if len(text) <= most:
        return text
    head = most // 3
    left_out = len(text) - most
    return f"{text[:head]}\n[{left_out:,} characters are not shown]\n{text[head + left_out :]}"


def tail_of(path: Path, most: int) -> str:
    """Return the end of a text file, at most `most` characters; empty if there is none. Blocks."""
    head, tail = read_ends(path, 4 * most)
    text = _ESCAPES.sub("", (tail or head).decode(errors="replace"))
    return text if len(text) <= most and not tail else f"[…]\n{text[-most:]}"


def read_ends(path: Path, most: int) -> tuple[bytes, bytes]:
    """Return a whole file and nothing, or a quarter of `most` bytes of its head and the rest of
    its tail. Links and what is no file are as if they were not there. Blocks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", b""
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return b"", b""
        if info.st_size <= most:
            return os.pread(fd, most, 0), b""
        head = os.pread(fd, most // 4, 0)
        rest = most - len(head)
        return head, os.pread(fd, rest, info.st_size - rest)
    finally:
        os.close(fd)
