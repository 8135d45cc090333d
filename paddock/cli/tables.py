"""Tables on stdout: as wide as the terminal, and whole where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["local_minute", "table_console"]

WHOLE = 10_000
"""Characters of a line of a pipe or a file, which has no width that something is cut to."""


def table_console() -> Console:
    """What prints tables."""
    console = Console(highlight=False)
    if not console.file.isatty():
        console.width = WHOLE
    return console


def local_minute(moment: datetime) -> str:
    """A moment as tables show it, to the minute, in the user's own time."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
