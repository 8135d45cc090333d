"""The command line. `main` is its entry point and its one error boundary.

Whatever the library raises on purpose becomes a line on stderr that says what is
wrong, and one that says what to do about it where that is known, and so does what it
warns of; anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a failure, 2 for wrong usage."""
    given = sys.argv[1:] if args is None else list(args)
    if given[:1] == ["serve"]:  # in a sandbox, where the rest has nothing to stand on
        from paddock.runtime.remote.command import main as serve

        return serve(given[1:])
    if given == ["--version"]:
        from importlib.metadata import version

        print(f"paddock {version('paddock')}")
        return 0
    if importlib.util.find_spec("typer") is None:
        print(
            "paddock: of the command line only `paddock serve` is installed here", file=sys.stderr
        )
        return 1
    from paddock.cli.app import app
    from paddock.cli.errors import is_expected, report, report_defect, report_warning
    from paddock.cli.settings import Settings, begin

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An arrow that the terminal's encoding lacks is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    settings = Settings(debug=bool(os.environ.get("PADDOCK_DEBUG")))
    begin(settings)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = report_warning
            app(args, obj=settings, prog_name="paddock")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if is_expected(error) and not settings.debug:
            report(error, settings.redactor)
        elif settings.redactor:
            report_defect(error, settings.redactor)
        else:
            raise
        return 1
    return 0
