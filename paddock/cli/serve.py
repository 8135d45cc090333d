"""``paddock serve``: an agent inside a sandbox, for clients outside."""

from __future__ import annotations

import typer

__all__ = ["PASSED_ON", "serve"]

PASSED_ON = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}
"""It reads its own options: where it runs, typer may not be installed."""


def serve(context: typer.Context) -> None:
    """Run an agent inside this sandbox, for clients outside; see `paddock serve --help`."""
    from paddock.runtime.remote.command import main

    raise typer.Exit(main(context.args))
