"""What holds for every command, and what a command leaves for the error boundary."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from paddock.redaction import NOTHING_SECRET, Redactor

__all__ = ["Settings", "begin", "keep_quiet"]


@dataclass
class Settings:
    """`debug` shows tracebacks. What `redactor` knows is in no error that is shown."""

    debug: bool = False
    redactor: Redactor = NOTHING_SECRET


_current: ContextVar[Settings | None] = ContextVar("settings", default=None)


def begin(settings: Settings) -> None:
    """Let `settings` be those of the command that runs now."""
    _current.set(settings)


def keep_quiet(redactor: Redactor) -> None:
    """Let errors of the command that runs now say nothing that `redactor` knows."""
    settings = _current.get()
    if settings is not None:
        settings.redactor |= redactor
