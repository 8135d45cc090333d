"""``paddock batch``: looking at a batch from outside, while it runs or afterwards."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paddock.cli import options
from paddock.cli.text import one_line, plain
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from paddock.runtime.fleet.run_directory import RunDirectory

__all__ = ["batch"]

WIDTH = 100
"""Characters of a line about a task."""

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the batch.")]

batch = typer.Typer(help="Look at a batch of `paddock map`.", no_args_is_help=True)


@batch.command()
def status(directory: Directory, as_json: options.AsJson = False) -> None:
    """Show how many tasks ended how, which run, and which failed."""
    from paddock.runtime.fleet.ledger import Ledger

    place = _opened(directory)
    with contextlib.closing(Ledger(place.ledger)) as ledger:
        counts, states = ledger.counts(), ledger.states()
        messages = {each.attempt.key: each.attempt.message for each in ledger.finished()}
    owned = place.is_locked()
    if as_json:
        print(json.dumps({"running": owned, "counts": counts}))
        return
    print("running" if owned else "not running", *(f"{n} {name}" for name, n in counts.items()))
    for key, state, number in states:
        if state not in ("pending", "completed"):
            about = f"{key}: {state}, attempt {number}: {messages.get(key, '')}"
            print(one_line(about.removesuffix(": "), WIDTH))


@batch.command()
def logs(
    directory: Directory,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key of the task.")],
) -> None:
    """Show what the last attempt of a task that has ended printed, and how it ended."""
    from paddock.runtime.fleet.tasks import folder_name

    place = _opened(directory)
    found = sorted(
        (place.path / "tasks" / folder_name(key)).glob("attempt-*"),
        key=lambda path: int(path.name.partition("-")[2]),
    )
    if not found:
        raise ConfigError(f"no attempt of task {key!r} has ended; see: paddock batch status")
    told = json.loads((found[-1] / "result.json").read_bytes())
    for name in ("stdout", "stderr"):
        path = found[-1] / name
        text = path.read_text(errors="replace") if path.exists() else ""
        typer.echo(plain(text), err=name == "stderr", nl=False)
    if told["fault"] is not None:
        typer.echo(plain(f"{told['fault']}: {told['message']}"), err=True)
    typer.echo(f"the files of attempt {told['attempt']}: {found[-1]}", err=True)


def _opened(directory: Path) -> RunDirectory:
    from paddock.runtime.fleet.run_directory import RunDirectory

    place = RunDirectory(directory)
    place.configuration()
    return place
