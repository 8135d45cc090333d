"""Tables on stdout: as wide as the terminal, and whole where there is none."""

from __future__ import annotations

from rich.console import Console

__all__ = ["table_console"]

WHOLE = 10_000
"""Characters of a line of a pipe or a file, which has no width that something is cut to."""


def table_console() -> Console:
    """What prints tables."""
    console = Console(highlight=False)
    if not console.file.isatty():
        console.width = WHOLE
    return console
