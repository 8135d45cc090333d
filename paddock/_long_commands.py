"""Commands that are too long for one word of a program's arguments.

Linux takes at most 128 KiB in a word, and the program text of ``sh -c`` is one. A longer text goes
to the shell by its stdin, before what the command itself reads there.
"""

from __future__ import annotations

import re
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock._arguments import LONGEST_WORD
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["by_stdin", "program_by_stdin"]

LONGEST_TEXT = 100_000
"""Bytes of a shell's program that go as a word: backends may wrap it in more."""
SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
OPTIONS = re.compile(
    r"[-+](?=.)[abefhlmpuBCEHPT]*(?P<value>o)?(?P<program>c)?[abefhlmpuBCEHPT]*"
    r"|--(?:login|noprofile|norc|posix)"
)
"""Options of a shell that may come before its program, and do not print or run what is read."""
READ = (
    'eval "$(while IFS= read -r line && [ "$line" != {end} ]; do printf \'%s\\n\' "$line"; done)"'
)
"""Reads the text up to the line `end`: `read` takes no byte more, so the command gets the rest."""


def program_by_stdin(text: str) -> tuple[str, bytes]:
    """Return what a shell runs instead of `text`, and what has to come first on its stdin.

    A text that is short enough is returned as it is, with nothing on stdin.
    """
    if _size(text) <= LONGEST_TEXT:
        return text, b""
    end = f"end-{uuid.uuid4().hex}"
    return READ.format(end=end), f"{text}\n{end}\n".encode(errors="surrogateescape")


def by_stdin(argv: Sequence[str]) -> tuple[tuple[str, ...], bytes]:
    """Return what to run instead of `argv`, and what has to come first on its stdin.

    Raise `ConfigError` for a long word that is not the program of a shell.
    """
    program = b""
    if (at := _program_at(argv)) is not None:
        text, program = program_by_stdin(argv[at])
        argv = (*argv[:at], text, *argv[at + 1 :])
    for number, word in enumerate(argv):
        if _size(word) > LONGEST_WORD:
            raise ConfigError(
                f"command[{number}] has {_size(word)} bytes, and a program takes at most "
                f"{LONGEST_WORD} in one argument; pass it by stdin or in a file"
            )
    return tuple(argv), program


def _size(word: str) -> int:
    return len(word.encode(errors="surrogateescape"))


def _program_at(argv: Sequence[str]) -> int | None:
    """Return where the program of a shell is, as in ``bash -euo pipefail -c PROGRAM``."""
    if not argv or PurePosixPath(argv[0]).name not in SHELLS:
        return None
    at = 1
    while at < len(argv) and (match := OPTIONS.fullmatch(argv[at])):
        at += 2 if match["value"] else 1
        if match["program"]:
            return at if at < len(argv) else None
    return None
