"""``${NAME}`` in the values of configurations: a variable of the environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NAME", "check_references", "names_in", "replaced"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"\$\{([^}]*)\}?")


def names_in(text: str) -> list[str]:
    """Return the names of the variables that `text` refers to."""
    return [each[1] for each in _REFERENCE.finditer(text)]


def check_references(text: str, place: str) -> None:
    """Raise `ConfigError` that begins with `place` for what looks like a reference and is not."""
    for reference in _REFERENCE.finditer(text):
        if not reference[0].endswith("}") or not NAME.fullmatch(reference[1]):
            raise ConfigError(f"{place}: only ${{NAME}} is replaced, with the name of a variable")


def replaced(text: str, environment: Mapping[str, str], place: str) -> str:
    """Return `text` with the values of the variables, which are not looked at again.

    Raise `ConfigError`, without any value, for an invalid reference and for a variable that is not
    set.
    """
    check_references(text, place)
    if missing := [name for name in names_in(text) if name not in environment]:
        raise ConfigError(f"{place}: the environment variable {missing[0]} is not set")
    return _REFERENCE.sub(lambda reference: environment[reference[1]], text)
