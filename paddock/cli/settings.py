"""What holds for every command, and what a command leaves for the error boundary."""

from __future__ import annotations

from dataclasses import dataclass

import click

from paddock.redaction import NOTHING_SECRET, Redactor

__all__ = ["Settings", "keep_quiet"]


@dataclass
class Settings:
    """`debug` shows tracebacks. What `redactor` knows is in no error that is shown."""

    debug: bool = False
    redactor: Redactor = NOTHING_SECRET


def keep_quiet(redactor: Redactor) -> None:
    """Let errors of the command that runs now say nothing that `redactor` knows."""
    context = click.get_current_context(silent=True)
    settings = None if context is None else context.find_object(Settings)
    if settings is not None:
        settings.redactor |= redactor
