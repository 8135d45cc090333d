"""``paddock demo``: the command; what it shows is in `mending`."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli import options
from paddock.cli.running import run

__all__ = ["demo"]


def demo(
    backend: options.BackendName = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A model's name; scripted needs no key.")
    ] = "scripted",
    count: Annotated[
        int,
        typer.Option("-n", min=0, help="Sandboxes at once in the second part; 0 leaves it out."),
    ] = 8,
    session_dir: options.SessionDir = None,
    isolation: options.Isolation = None,
    secret: options.Secret = None,
    short_secret: options.ShortSecret = None,
) -> None:
    """Watch an agent mend a broken project in a sandbox, then in eight at once.

    Needs no key, no network and no root: the model is a script, and its tool calls
    really run. With OPENAI_API_KEY set, a real model does the same:

        paddock demo --model gpt-5-mini
    """
    from paddock.cli.mending import make_agent, mend

    agent = make_agent(backend, model, isolation, options.read_secrets(secret, short_secret))
    mended = run(mend(agent, session_dir, count))
    raise typer.Exit(0 if mended else 1)
