"""``paddock demo``: the command; what it shows is in `mending`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from paddock.cli import options
from paddock.cli.running import run
from paddock.errors import PaddockError

__all__ = ["demo"]


def choose_isolation() -> str | None:
    """Choose a level where nothing else does: the demo runs without bubblewrap, and says so first.

    A passing failure of the probe is left to the sandbox, whose error it is.
    """
    from paddock.backends.isolation.levels import SETTING
    from paddock.backends.local import probe

    if os.environ.get(SETTING):
        return None
    try:
        found = run(probe())
    except (PaddockError, OSError):
        return None
    if found.level == "bubblewrap":
        return None
    how = (
        "under Landlock"
        if found.level == "landlock"
        else "unfenced, because its commands are its own"
    )
    print(f"The demo runs {how}: {found.reason}", flush=True)
    return found.level


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

    if isolation is None and backend in (None, "local"):
        isolation = choose_isolation()
    agent = make_agent(backend, model, isolation, options.read_secrets(secret, short_secret))
    mended = run(mend(agent, session_dir, count))
    raise typer.Exit(0 if mended else 1)
