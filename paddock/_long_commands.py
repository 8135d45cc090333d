"""Commands that are too long for one word of a program's arguments.

Linux takes at most 128 KiB in a word, and the program text of ``sh -c`` is one. A longer text goes
to the shell by its stdin, before what the command itself reads there.
"""

from __future__ import annotations

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
READ = (
    'eval "$(while IFS= read -r line && [ "$line" != {end} ]; do printf \'%s\\n\' "$line"; done)"'
)
"""Reads the text up to the line `end`: `read` takes no byte more, so the command gets the rest."""


def program_by_stdin(text: str) -> tuple[str, bytes]:
    """Return what a shell runs in place of `text`, and what has to come first on its stdin.

    A text that is short enough is returned as it is, with nothing on stdin.
    """
    if _size(text) <= LONGEST_TEXT:
        return text, b""
    end = f"end-{uuid.uuid4().hex}"
    return READ.format(end=end), f"{text}\n{end}\n".encode(errors="surrogateescape")


def by_stdin(argv: Sequence[str]) -> tuple[tuple[str, ...], bytes]:
    """Return what to run in place of `argv`, and what has to come first on its stdin.

    Raise `ConfigError` for a long word that is not the program of a shell.
    """
    program = b""
    if _is_shell(argv):
        text, program = program_by_stdin(argv[2])
        argv = (*argv[:2], text, *argv[3:])
    for number, word in enumerate(argv):
        if _size(word) > LONGEST_WORD:
            raise ConfigError(
                f"command[{number}] has {_size(word)} bytes, and a program takes at most "
                f"{LONGEST_WORD} in one argument; pass it by stdin or in a file"
            )
    return tuple(argv), program


def _size(word: str) -> int:
    return len(word.encode(errors="surrogateescape"))


def _is_shell(argv: Sequence[str]) -> bool:
    return len(argv) > 2 and PurePosixPath(argv[0]).name in SHELLS and argv[1] == "-c"
