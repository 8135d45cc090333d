"""Checks of arguments, made once for every backend, before anything is asked of a sandbox.

Each function returns the value in the one form that the rest of the library works with, or
raises `ConfigError` with the argument's name, its value and what to give instead. Values that
may be secret (input, contents of files, variables) are not quoted: only where they are wrong.
"""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

from paddock.errors import ConfigError

__all__ = [
    "LONGEST_WORD",
    "check_absolute",
    "check_bytes",
    "check_callback",
    "check_choice",
    "check_command",
    "check_limit",
    "check_local_path",
    "check_optional_bytes",
    "check_owner",
    "check_path",
    "check_patterns",
    "check_seconds",
    "check_signal",
    "check_stdin",
    "check_text",
    "check_timeout",
    "check_user",
    "check_variables",
    "check_whole",
]

T = TypeVar("T")

LONGEST_WORD = 128 * 1024 - 1
"""Bytes of an argument or a variable: MAX_ARG_STRLEN of Linux, less the NUL at the end."""
OFFSET_MAX = 2**63 - 1
"""The largest size and position of a file that systems know."""
SIGNAL_MAX = 64
"""Linux has signals 1 to 64."""
USER_MAX = 2**32 - 2
"""The largest number of a user or group; the next one means "unchanged"."""


def _wrong(name: str, value: object, give: str) -> ConfigError:
    return ConfigError(f"{name}={reprlib.repr(value)}: give {give}")


def check_whole(name: str, value: Any, *, least: int = 0, most: int = OFFSET_MAX) -> int:
    """Return a whole number from `least` to `most`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        until = f"to {most}" if most < OFFSET_MAX else "or more"
        raise _wrong(name, value, f"a whole number, {least} {until}")
    return int(value)


def check_signal(number: object) -> int:
    return check_whole("signal number", number, least=1, most=SIGNAL_MAX)


def check_seconds(name: str, value: Any) -> float:
    """Return a finite number of seconds, 0 or more."""
    if not _is_number(value) or not 0 <= value < math.inf:
        raise _wrong(name, value, "a number of seconds, 0 or more")
    return float(value)


def check_limit(name: str, value: Any) -> float | None:
    """Return a finite number of seconds above 0; None for no limit."""
    if value is None:
        return None
    if not _is_number(value) or not 0 < value < math.inf:
        raise _wrong(name, value, "a number of seconds above 0, or None for no limit")
    return float(value)


def check_timeout(value: Any) -> float | None:
    """Return the seconds that a call may take; None for no limit, which infinity means, too."""
    if value is None or value == math.inf:
        return None
    if not _is_number(value) or not value >= 0:
        raise _wrong("timeout", value, "a number of seconds, 0 or more, or None for no limit")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_text(name: str, value: object) -> str:
    """Return text that a system call can take: encodable, and without NUL."""
    if not isinstance(value, str):
        raise _wrong(name, value, "text (str)")
    _check_characters(name, value)
    return value


def _check_characters(name: str, value: str) -> None:
    """Surrogates that stand for a byte (PEP 383) are fine; others stand for nothing."""
    if "\0" in value:
        raise ConfigError(f"{name}: character {value.index(chr(0))} is NUL, which cannot be passed")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        character = value[error.start]
        raise ConfigError(
            f"{name}: character {error.start} is {character!r}, which UTF-8 cannot hold"
        ) from None


def check_path(name: str, value: object) -> str | PurePosixPath:
    """Return a path of a sandbox; `.` is the working directory, and nothing is an error."""
    if not isinstance(value, str | PurePosixPath):
        raise _wrong(name, value, "a path of the sandbox as str or PurePosixPath")
    if not str(value):
        raise _wrong(name, value, "a path; '.' is the working directory")
    if "\0" in str(value):
        raise _wrong(name, value, "a path without NUL")
    _check_characters(name, str(value))
    return value


def check_absolute(name: str, value: object) -> None:
    """Check an optional path that a sandbox resolves and not `paddock`."""
    if value is not None and not str(value).startswith("/"):
        raise _wrong(name, value, "an absolute path")


def check_local_path(name: str, value: Any) -> str:
    """Return a path of this machine."""
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise _wrong(name, value, "a path of this machine as str or os.PathLike") from None
    if not path or "\0" in path:
        raise _wrong(name, value, "a path of this machine, not empty and without NUL")
    _check_characters(name, path)
    return path


def check_command(command: object) -> tuple[str, ...]:
    """Return an argv: of a string that of a shell, of a sequence its words."""
    if isinstance(command, str):
        return "sh", "-c", check_text("command", command)
    if not isinstance(command, Sequence) or isinstance(command, bytes | bytearray | memoryview):
        raise _wrong("command", command, "one string for a shell, or a list of words")
    words = tuple(check_text(f"command[{at}]", word) for at, word in enumerate(command))
    if not words or not words[0]:
        raise _wrong("command", command, "a program and its arguments")
    return words


def check_variables(name: str, variables: object) -> dict[str, str]:
    """Return environment variables."""
    if variables is None:
        return {}
    if not isinstance(variables, Mapping):
        raise _wrong(name, variables, "a mapping of names to values")
    for key, value in variables.items():
        if not isinstance(key, str) or not key or "=" in key:
            raise ConfigError(f"{name}: {key!r} is no name; give text without '=', not empty")
        _check_characters(f"{name}: the name {key!r}", key)
        if not isinstance(value, str):
            kind = type(value).__name__
            raise ConfigError(f"{name}: the value of {key!r} is of type {kind}; give text (str)")
        _check_characters(f"{name}: the value of {key!r}", value)
        size = len(f"{key}={value}".encode(errors="surrogateescape"))
        if size > LONGEST_WORD:
            raise ConfigError(
                f"{name}: {key!r} has {size} bytes with its value, and a program takes at most "
                f"{LONGEST_WORD}; put it into a file"
            )
    return dict(variables)


def check_user(value: object) -> str | None:
    """Return ``name``, ``uid``, ``name:group`` or ``uid:gid``; None for the sandbox's own user."""
    return None if value is None else check_one_user("user", value)


def check_one_user(name: str, value: object) -> str:
    """Return what `check_user` does; None stays None."""
    if isinstance(value, str) and value.count(":") <= 1:
        check_text(name, value)
        if all(map(_may_be_user, value.split(":"))):
            return value
    raise _wrong(name, value, "'name', 'uid', 'name:group' or 'uid:gid' as text")


def check_owner(name: str, value: object) -> str:
    """Return the name of a user or a group, or its number, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(check_whole(name, value, most=USER_MAX))
    if isinstance(value, str) and ":" not in value:
        check_text(name, value)
        if _may_be_user(value):
            return value
    raise _wrong(name, value, "a name or a number")


def _may_be_user(part: str) -> bool:
    if part.isascii() and part.isdigit():
        return int(part) <= USER_MAX
    return bool(part) and "\n" not in part


def check_bytes(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise ConfigError(f"{name}: give bytes, not {type(value).__name__}")


def check_optional_bytes(name: str, value: object) -> bytes | None:
    return None if value is None else check_bytes(name, value)


def check_stdin(value: object) -> bytes | None:
    """Return what a command is to read."""
    if not isinstance(value, str):
        if value is not None and not isinstance(value, bytes | bytearray | memoryview):
            raise ConfigError(f"stdin: give bytes or text, not {type(value).__name__}")
        return check_optional_bytes("stdin", value)
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"stdin: character {error.start} is {value[error.start]!r}, which UTF-8 cannot "
            "hold; give bytes"
        ) from None


def check_callback(name: str, value: T) -> T:
    """Return something that can be called, or None."""
    if value is not None and not isinstance(value, Callable):  # type: ignore[arg-type]
        raise _wrong(name, value, "a function, or None")
    return value


def check_patterns(name: str, value: object) -> tuple[str, ...]:
    """Return patterns of names of files."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _wrong(name, value, "a list of patterns")
    patterns = tuple(check_text(f"{name}[{at}]", item) for at, item in enumerate(value))
    for pattern in patterns:
        if not pattern.strip(" /!"):
            raise _wrong(name, pattern, "patterns as in a .gitignore file, which name something")
    return patterns


def check_choice(name: str, value: T, choices: Sequence[T]) -> T:
    """Return one of `choices`."""
    if value not in choices:
        raise _wrong(name, value, " or ".join(map(repr, choices)))
    return value
