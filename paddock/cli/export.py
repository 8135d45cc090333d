"""``paddock export``: a session in the format that collections of agents' runs share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from paddock.cli import options

__all__ = ["export"]


def export(
    session: options.SessionId = "latest",
    directory: options.ShortSessionDir = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write to a new file instead of to stdout."
        ),
    ] = None,
) -> None:
    """Write a session's trajectory as JSON (ATIF v1.6): messages, tool calls, results, costs.

    paddock export latest -o run.json
    """
    from paddock.cli.conversation import check_new_file
    from paddock.cli.sessions import find_session, open_store
    from paddock.runtime.telemetry.atif import trace_to_atif

    check_new_file(output)
    store = open_store(directory)
    name = find_session(store, session)
    trajectory = trace_to_atif(
        store.base_dir / name / "trace.jsonl",
        session_id=name,
        model_name=store.info(name).model or None,
    )
    text = json.dumps(trajectory, indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        _write(output, text)


def _write(path: Path, text: str) -> None:
    """Only their owner may read what was said in a session."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
