"""``paddock map``: a list of tasks, and a fresh sandbox for each."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paddock.cli import options
from paddock.cli.agents import AgentOptions, configure, read_config
from paddock.cli.errors import is_expected, report
from paddock.cli.placing import PlaceOptions
from paddock.cli.recipes import make_backend, make_trusted_backend
from paddock.cli.running import run
from paddock.cli.sandbox_options import SandboxOptions
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paddock.backends.base import Backend

__all__ = ["MapOptions", "map_"]

USAGE = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """What is done for each task; frozen with the batch."""

    agent: Annotated[
        Path | None,
        typer.Option("--agent", metavar="FILE", help="An agent's YAML; a task is its prompt."),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="For one attempt: create, set-up, run, collect, verify."
        ),
    ] = None
    artifact: Annotated[
        list[str] | None,
        typer.Option(
            "--artifact",
            metavar="PATH",
            help="Copy this file or tree out of each sandbox. Repeatable.",
        ),
    ] = None
    artifact_limit: Annotated[
        int | None,
        typer.Option(
            "--artifact-limit",
            metavar="BYTES",
            min=1,
            help="Fail a task with more bytes of artifacts; 4 GiB by default.",
        ),
    ] = None
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify",
            metavar="CMD",
            help="Run this shell command in a fresh sandbox that has the artifacts and nothing "
            "else; a task fails unless it returns 0.",
        ),
    ] = None
    keep: Annotated[
        Literal["failed"] | None,
        typer.Option(
            "--keep",
            help="Keep the sandboxes of failed tasks, for paddock batch attach; at most "
            "twenty. Needs a backend whose sandboxes can outlive their maker.",
        ),
    ] = None


@options.with_option_groups
def map_(
    tasks: Annotated[
        Path | None, typer.Argument(metavar="[TASKS]", help="JSON Lines, one task per line.")
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- CMD...]",
            help="The program and its arguments, in which {input} and {key} stand for the task's.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new directory for the results.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="DIR", help="Continue the batch in this directory."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Sandboxes at once, at most.")] = 8,
    rerun: Annotated[
        list[str] | None,
        typer.Option(
            "--rerun",
            metavar="failed|infra|cancelled|KEY",
            help="With --resume: run these finished tasks again. Repeatable.",
        ),
    ] = None,
    rerun_changed: Annotated[
        bool,
        typer.Option(
            "--rerun-changed",
            help="With --resume: run tasks that are new or changed in TASKS; all of them, if "
            "options have changed.",
        ),
    ] = False,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="Run each task this many times.")
    ] = 1,
    retries: Annotated[
        int,
        typer.Option(
            "--retries", min=0, help="Run a task that fails by itself up to this many times again."
        ),
    ] = 0,
    fail_under: Annotated[
        float,
        typer.Option(
            "--fail-under",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Succeed if this share of the tasks is completed.",
        ),
    ] = 1.0,
    give_up_after: Annotated[
        float,
        typer.Option(
            "--give-up-after",
            metavar="SECONDS",
            min=0.0,
            help="Give up if the infrastructure does not work for this long.",
        ),
    ] = 600.0,
    work: MapOptions,
    place: PlaceOptions,
    agent: AgentOptions,
    sandbox: SandboxOptions,
    context: typer.Context,
) -> None:
    """Run a command or an agent for each of many tasks, each in a fresh sandbox.

    The exit code is 0 if all tasks are completed, 1 if tasks failed, 2 for wrong usage, 4 if
    only the infrastructure failed, 75 if the batch gave up and can be resumed, and 128 + n if
    signal n ended it. What is finished never runs again.

        paddock map tasks.jsonl --out runs/a -- python3 solve.py {input}

        paddock map tasks.jsonl --out runs/b --agent agent.yaml --backend docker --limit 16

        paddock map tasks.jsonl --out runs/c --priority weight --group kind --cap gpu=2 -- ./run

        paddock map --resume runs/a --rerun failed
    """
    given = _Given(
        work=work, place=place, agent=agent, sandbox=sandbox, command=tuple(command or ())
    )
    settings = {"limit": limit, "give_up_after": give_up_after, "rerun": rerun or ()}
    try:
        if resume is None:
            fleet, results = _begin(given, tasks, out, settings, repeat, retries, rerun_changed)
        else:
            sandbox = sandbox.unless_from_environment(context)
            given = dataclasses.replace(given, sandbox=sandbox)
            _refuse(out=out, repeat=None if repeat == 1 else repeat)
            fleet, results = _resume(given, tasks, resume, settings, retries, rerun_changed)
        from paddock.cli.mapping import show

        code = run(show(fleet, results, out=resume or out or Path(), fail_under=fail_under))
    except Exception as error:
        if not is_expected(error):
            raise
        from paddock.cli.settings import Settings

        known = context.find_object(Settings)
        if known is not None and known.debug:
            raise
        report(error, *([known.redactor] if known is not None else []))
        code = USAGE
    raise typer.Exit(code)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """The options that decide what an attempt does."""

    work: MapOptions
    place: PlaceOptions
    agent: AgentOptions
    sandbox: SandboxOptions
    command: tuple[str, ...]

    def written(self) -> dict[str, Any]:
        """Return them for run.json, without values of secrets and without trust."""
        sandbox = _fields(self.sandbox)
        sandbox.pop("trust", None)
        for name in ("secret", "short_secret"):
            if name in sandbox:
                sandbox[name] = [text.partition("=")[0] for text in sandbox[name]]
        return {
            "work": _fields(self.work),
            "place": _fields(self.place),
            "agent": _fields(self.agent),
            "sandbox": sandbox,
            "command": list(self.command),
        }

    def over(self, earlier: Mapping[str, Any]) -> _Given:
        """Return the options of an earlier command line, changed by these."""
        return _Given(
            work=_over(MapOptions, earlier["work"], self.work),
            place=_over(PlaceOptions, earlier["place"], self.place),
            agent=_over(AgentOptions, earlier["agent"], self.agent),
            sandbox=_over(SandboxOptions, earlier["sandbox"], self.sandbox),
            command=self.command or tuple(earlier["command"]),
        )


def _fields(group: Any) -> dict[str, Any]:
    """Return the options that were given, as JSON."""
    found = {each.name: getattr(group, each.name) for each in dataclasses.fields(group)}
    defaults = {each.name: each.default for each in dataclasses.fields(group)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in found.items()
        if value != defaults[name]
    }


def _over(kind: type[Any], earlier: Mapping[str, Any], given: Any) -> Any:
    paths = {each.name for each in dataclasses.fields(kind) if "Path" in str(each.type)}
    paths |= {"dockerfile"}
    known = {name: Path(each) if name in paths else each for name, each in earlier.items()}
    try:
        return kind(**{**known, **_as_given(given)})
    except TypeError:
        raise ConfigError(
            "the batch was begun by another version of Paddock, whose options this one lacks"
        ) from None


def _as_given(group: Any) -> dict[str, Any]:
    return {name: getattr(group, name) for name in _fields(group)}


def _begin(
    given: _Given,
    tasks: Path | None,
    out: Path | None,
    settings: dict[str, Any],
    repeat: int,
    retries: int,
    rerun_changed: bool,
) -> Any:
    if tasks is None or out is None:
        raise ConfigError(
            "give a file of tasks and --out DIR, or --resume DIR\n"
            "  paddock map tasks.jsonl --out runs/a -- python3 solve.py {input}"
        )
    if rerun_changed or settings["rerun"]:
        raise ConfigError("--rerun and --rerun-changed need --resume DIR")
    settings |= {"out": out, "repeat": repeat, "extra": _arguments(given, tasks)}
    return _fleet(given, settings, retries, _read(tasks))


def _read(path: Path) -> Iterator[object]:
    """Return the tasks in a file; raise `ConfigError` if there are none, as something failed."""
    from paddock.runtime.fleet.tasks import read_tasks

    number = 0
    for number, value in enumerate(read_tasks(path), 1):  # noqa: B007
        yield value
    if not number:
        raise ConfigError(f"{path} has no tasks; give a JSON value in each line")


def _resume(
    given: _Given,
    tasks: Path | None,
    directory: Path,
    settings: dict[str, Any],
    retries: int,
    rerun_changed: bool,
) -> Any:
    """Resume a batch; relative paths of the earlier options are those of its own directory."""
    from paddock.runtime.fleet.run_directory import RunDirectory

    place = RunDirectory(directory)
    arguments = place.configuration().get("arguments")
    if arguments is None:
        raise ConfigError(f"{directory} was begun by a program; resume it by Fleet(resume=True)")
    given_tasks = None if tasks is None else tasks.absolute()
    os.chdir(arguments["directory"])
    if rerun_changed and given_tasks is None:
        given_tasks = Path(arguments["tasks"])
    settings |= {"out": place.path, "resume": True, "rerun_changed": rerun_changed}
    values = None if given_tasks is None else _read(given_tasks)
    given = given.over(arguments)
    settings["extra"] = _arguments(given, given_tasks or Path(arguments["tasks"]))
    return _fleet(given, settings, retries, values)


def _arguments(given: _Given, tasks: Path) -> dict[str, Any]:
    """Return what run.json keeps of the command line."""
    arguments = {**given.written(), "tasks": str(tasks), "directory": os.getcwd()}
    return {"arguments": arguments}


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--{name} cannot be changed with --resume")


def _fleet(given: _Given, settings: dict[str, Any], retries: int, values: Any) -> Any:
    """Return the fleet, and the iterator of its results."""
    from paddock.runtime.fleet.fleet import Fleet
    from paddock.runtime.fleet.retries import Retries

    backend, work = _work(given)
    asked = given.work
    fleet = Fleet(
        backend,
        timeout=asked.timeout,
        artifacts=asked.artifact or (),
        artifact_limit=asked.artifact_limit,
        verify=asked.verify,
        keep=asked.keep,
        retries=Retries(own=retries),
        **given.place.settings(settings["limit"]),
        **settings,
    )
    return fleet, fleet.map(work, values)


def _work(given: _Given) -> tuple[Backend, Any]:
    """Return the recipe and what is done with its sandboxes: the command, or the agent."""
    from paddock.runtime.agents.agent import Agent

    secrets = given.sandbox.secrets()
    if given.command:
        if given.work.agent is not None or given.agent.overridden:
            raise ConfigError("give an agent or a command, not both")
        return make_trusted_backend(given.sandbox, secrets=secrets), given.command
    if given.work.agent is None:
        raise ConfigError("give a command after --, or --agent FILE")
    base = read_config(given.work.agent, given.agent, given.sandbox)
    config = configure(base, given.agent, given.sandbox)
    backend = config.backend
    if isinstance(backend, str):
        backend = make_backend(dataclasses.replace(given.sandbox, backend=backend))
    backend = dataclasses.replace(backend, secrets={**backend.secrets, **secrets})
    return backend, Agent(dataclasses.replace(config, backend=backend))
