"""A command in the forms that a sandbox with a shell takes; no I/O."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from paddock.backends.posix.inside import KEY, WRAPPER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.posix.inside import Inside
    from paddock.sandbox import Command

__all__ = ["environment", "header", "wrapped"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names that a shell keeps when it starts something; others it drops."""
SHELLS_OWN = frozenset({"BASHOPTS", "EUID", "IFS", "OPTIND", "PPID", "PS4", "SHELLOPTS", "UID"})
"""Variables that some shell does not let a script set, or that change how it reads a script."""

DECODE = r"""
n=$#
while [ $n -gt 0 ]; do
  word=$(printf '%b.' "$1")
  shift
  set -- "$@" "${word%.}"
  n=$((n - 1))
done
"""
"""Takes the escapes of `_escaped` back; the dot keeps newlines at a word's end."""
MERGE = 'exec "$@" 2>&1'
SIZED = 'stty rows "$1" cols "$2" 2>/dev/null; shift 2; exec "$@"'
"""Sets a terminal's size, which what carries it may set later than the command asks for it."""


def wrapped(command: Command, inside: Inside) -> list[str]:
    """The words of `command` below its wrapper, all of them fit for JSON."""
    words = [inside.sh, inside.grep, str(command.cwd), *_argv(command)]
    if all(map(_plain, words)):
        return [inside.sh, "-c", WRAPPER, "paddock", *words]
    return [inside.sh, "-c", DECODE + WRAPPER, "paddock", *map(_escaped, words)]


def header(command: Command, inside: Inside, key: str) -> bytes:
    """Return what the launcher of `inside` reads: the command's words and its environment."""
    env = {**environment(command, inside), KEY: key}
    own = [f"{name}={env.pop(name)}" for name in SHELLS_OWN & env.keys()]
    argv = ["env", *own, *_argv(command)] if own else _argv(command)
    words = [inside.sh, inside.grep, str(command.cwd), *argv]
    pairs = [f"{name}={value}" for name, value in env.items()]
    first = f"{int(command.stdin)} {len(pairs)} {len(words)}"
    return os.fsencode("\n".join([first, *map(_line, [*words, *pairs]), ""]))


def _line(word: str) -> str:
    return f"%{_escaped(word)}" if "\n" in word else f"={word}"


def environment(command: Command, inside: Inside) -> dict[str, str]:
    """The part of its environment that the engine and two shells hand on as it is.

    The engine sets the home of another user, unless it was given, and no other variable of a login.
    """
    env = {name: value for name, value in command.env.items() if _kept(name, value)}
    if command.user is not None and env.get("HOME") == inside.env.get("HOME"):
        env.pop("HOME", None)
    name = (command.user or inside.user or "").partition(":")[0]
    login = {} if name.isdigit() or not name else dict.fromkeys(("USER", "LOGNAME"), name)
    return login | env


def _argv(command: Command) -> Sequence[str]:
    odd = [f"{name}={value}" for name, value in command.env.items() if not _kept(name, value)]
    argv = ["env", *odd, *command.argv] if odd else command.argv
    if command.pty is not None:
        return ["sh", "-c", SIZED, "sh", str(command.pty.rows), str(command.pty.cols), *argv]
    return ["sh", "-c", MERGE, "sh", *argv] if command.merge_output else argv


def _kept(name: str, value: str) -> bool:
    return NAME.fullmatch(name) is not None and _plain(value)


def _plain(word: str) -> bool:
    """Whether it is text: JSON has no other bytes."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(word: str) -> str:
    """Escapes of ``printf %b`` for every byte that is not harmless."""
    encoded = word.encode(errors="surrogateescape")
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\0{byte:03o}" for byte in encoded
    )
