"""Errors as lines for a person: what is wrong, and what to do about it."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from paddock.cli.text import plain
from paddock.errors import (
    IsolationUnavailable,
    ModelError,
    PaddockError,
    SandboxLost,
    SessionLocked,
    SetupFailed,
    TraceWriteError,
)
from paddock.redaction import NOTHING_SECRET, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["explain", "is_expected", "report", "report_defect", "report_warning"]

_EXPECTED = (PaddockError, OSError, ValueError)
"""What bad input and a hostile world look like; everything else is a defect of ours."""

_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (IsolationUnavailable, "`paddock doctor` says what this machine can do"),
    (SetupFailed, "run it by itself with: paddock exec -- COMMAND"),
    (SessionLocked, "wait for it, or end it; `paddock sessions list` shows all"),
    (TraceWriteError, "make room, or choose another place with --session-dir"),
    (ModelError, "check the model's name, OPENAI_API_KEY and --base-url"),
    (SandboxLost, "run again; --debug shows where it was lost"),
)


def is_expected(error: Exception) -> bool:
    """Whether `error`, or every error in the group that it is, needs no traceback."""
    return all(isinstance(leaf, _EXPECTED) for leaf in _leaves(error))


def report(error: Exception, redactor: Redactor = NOTHING_SECRET) -> None:
    """Tell on stderr."""
    for leaf in _leaves(error):
        print(f"paddock: {explain(leaf, redactor)}", file=sys.stderr)


def report_defect(error: Exception, redactor: Redactor) -> None:
    """Tell on stderr where it was raised, and what led to it."""
    print(redactor.text("".join(traceback.format_exception(error))), end="", file=sys.stderr)


def report_warning(message: Warning | str, *_place: object, **_more: object) -> None:
    """Print a warning on stderr without the place in our code (for `warnings.showwarning`)."""
    print(f"paddock: {plain(str(message))}", file=sys.stderr)


def explain(error: BaseException, redactor: Redactor = NOTHING_SECRET) -> str:
    """The error as text, its first line the sentence, its last what to do, where we know."""
    lines = [_sentence(error, redactor)]
    notes = getattr(error, "__notes__", ())  # such as what is left behind
    lines += [f"  {plain(redactor.text(note))}" for note in notes]
    lines += [f"  {advice}" for kind, advice in _ADVICE if isinstance(error, kind)][:1]
    return "\n".join(lines)


def _sentence(error: BaseException, redactor: Redactor) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, PaddockError):
        name = f"{error.filename}: " if error.filename is not None else ""
        return plain(redactor.text(f"{name}{error.strerror}"))
    return plain(redactor.text(str(error) or type(error).__name__))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
