"""``paddock batch``: looking at a batch from outside, while it runs or afterwards."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paddock.cli import options
from paddock.cli.text import one_line, plain
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from paddock.backends.base import Backend
    from paddock.runtime.fleet.ledger import Ledger
    from paddock.runtime.fleet.run_directory import RunDirectory
    from paddock.sandbox import Sandbox

__all__ = ["batch"]

WIDTH = 100
"""Characters of a line about a task."""

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory of the batch.")]

batch = typer.Typer(help="Look at a batch of `paddock map`.", no_args_is_help=True)


@batch.command()
def status(directory: Directory, as_json: options.AsJson = False) -> None:
    """Show how many tasks ended how, which run, which failed, and which sandboxes are kept."""
    place = _opened(directory)
    with _ledger(place) as ledger:
        counts, states, kept = ledger.counts(), ledger.states(), ledger.kept()
        failed = (each.attempt for each in ledger.finished() if each.attempt.fault is not None)
        messages = {attempt.key: attempt.message for attempt in failed}
    owned = place.is_locked()
    if as_json:
        print(json.dumps({"running": owned, "counts": counts, "kept": kept}))
        return
    print("running" if owned else "not running", *(f"{n} {name}" for name, n in counts.items()))
    for key, state, number in states:
        if state not in ("pending", "completed"):
            about = f"{key}: {state}, attempt {number}: {messages.get(key, '')}"
            print(one_line(about.removesuffix(": "), WIDTH))
    for key, sandbox in kept.items():
        print(one_line(f"{key}: sandbox {sandbox} is kept; paddock batch attach", WIDTH))


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


@batch.command()
def attach(
    directory: Directory,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key of the task.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- CMD...]", help="Another program than a shell."),
    ] = None,
) -> None:
    """Open a shell in the sandbox of a failed task that `paddock map --keep failed` kept.

    With a command and without a terminal, run that. The exit code is that of the program. The
    sandbox stays; it has no values of secrets.

        paddock batch attach runs/a task-17

        paddock batch attach runs/a task-17 -- cat build.log
    """
    from paddock.cli.running import run
    from paddock.cli.shell import BEST_SHELL, open_shell
    from paddock.cli.terminals import own_terminal

    place = _opened(directory)
    with _ledger(place) as ledger:
        sandbox_id = ledger.kept().get(key)
    if sandbox_id is None:
        raise ConfigError(f"no sandbox of task {key!r} is kept; see: paddock batch status")
    held = _attached(_backend_of(place), sandbox_id)
    if command and not sys.stdin.isatty():
        raise typer.Exit(run(_run_in(held, command)))
    raise typer.Exit(run(open_shell(held, command or BEST_SHELL, None, own_terminal())))


@contextlib.asynccontextmanager
async def _attached(backend: Backend, sandbox_id: str) -> AsyncIterator[Sandbox]:
    """Hold a kept sandbox, on whichever engine of the batch it is."""
    from paddock.cli.shell import attached

    for engine in backend.engines():
        if any(info.id == sandbox_id for info in await engine.list()):
            async with attached(engine, sandbox_id) as sandbox:
                yield sandbox
            return
    raise ConfigError(f"sandbox {sandbox_id!r} is gone; see: paddock batch status")


async def _run_in(held: AbstractAsyncContextManager[Sandbox], command: Sequence[str]) -> int:
    async with held as sandbox:
        result = await sandbox.exec(command)
    typer.echo(result.stdout, nl=False)
    typer.echo(result.stderr, nl=False, err=True)
    return result.exit_code


@batch.command()
def clean(directory: Directory) -> None:
    """Remove all sandboxes of a batch that does not run, the kept ones too; print their ids."""
    from paddock.cli.running import run

    place = _opened(directory)
    place.lock()
    try:
        removed = run(_remove_all(_backend_of(place), place.configuration()["run_id"]))
        with _ledger(place) as ledger:
            ledger.forget_kept()
    finally:
        place.unlock()
    for each in removed:
        print(each)
    if not removed:
        typer.echo("No sandbox of it was left.", err=True)


async def _remove_all(backend: Backend, run_id: str) -> list[str]:
    from paddock.runtime.fleet.sweeping import remove_labelled

    removed = [await remove_labelled(each, run_id) for each in backend.engines()]
    return [each for ids in removed for each in ids]


def _backend_of(place: RunDirectory) -> Backend:
    """Return the recipe of a batch, without secrets."""
    from paddock.runtime.agents.recipes import read_recipe

    recipe = place.configuration()["configuration"]["backend"]
    if not isinstance(recipe, dict):
        raise ConfigError("the recipe of this batch cannot be read from run.json; use paddock rm")
    return read_recipe(recipe, source=str(place.path / "run.json"))


def _ledger(place: RunDirectory) -> AbstractContextManager[Ledger]:
    from paddock.runtime.fleet.ledger import Ledger

    return contextlib.closing(Ledger(place.ledger))


def _opened(directory: Path) -> RunDirectory:
    from paddock.runtime.fleet.run_directory import RunDirectory

    place = RunDirectory(directory)
    place.configuration()
    return place
