"""``paddock demo``: an agent mends a broken project, in one sandbox and then in many.

Nothing in it is pretended: the model may be a script, but each of its tool calls runs
in the sandbox, and whether the project is mended is asked of the project's own tests.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.errors import explain
from paddock.cli.render import Narrator, describe_usage
from paddock.cli.running import run
from paddock.cli.text import one_line
from paddock.cli.trees import diff, snapshot
from paddock.cli.witness import Witness
from paddock.errors import PaddockError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.runtime.agent import Agent
    from paddock.runtime.results import RunResult
    from paddock.runtime.session import Session
    from paddock.sandbox import Sandbox

__all__ = ["demo"]

MATERIAL = Path(__file__).parent / "_demo"
SETUP = ("python3 tools/build_rates.py",)
TESTS = "python3 -m unittest"
PROMPT = (
    f"The tests of this project fail ({TESTS}). Find the bug and mend it; leave the tests alone."
)
SYSTEM_PROMPT = "You mend programs. Find the cause before you change anything; then run the tests."

MAX_TURNS = 30
"""Calls of the model: the script takes five, a real model seldom ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the agent of one sandbox did.

    `mended` is what the project's own tests say, `note` why it is not. `seconds` is the
    whole life of the sandbox, until it is gone.
    """

    name: str
    mended: bool
    seconds: float
    usage: Mapping[str, Any]
    note: str = ""


def demo(
    backend: options.BackendName = "local",
    model: Annotated[
        str, typer.Option("--model", "-m", help="A model's name; scripted needs no key.")
    ] = "scripted",
    count: Annotated[
        int,
        typer.Option("-n", min=0, help="Sandboxes at once in the second part; 0 leaves it out."),
    ] = 8,
    session_dir: options.SessionDir = None,
    isolation: options.Isolation = None,
) -> None:
    """Watch an agent mend a broken project in a sandbox, then in eight at once.

    Needs no key, no network and no root: the model is a script, and its tool calls
    really run. With OPENAI_API_KEY set, a real model does the same:

        paddock demo --model gpt-5-mini
    """
    agent = _agent(backend, model, isolation)
    console = Console(highlight=False)
    mended = run(_demo(agent, session_dir, count, console))
    raise typer.Exit(0 if mended else 1)


def _agent(backend: str, model: str, isolation: str | None) -> Agent:
    from paddock.runtime.agent import Agent
    from paddock.runtime.config import AgentConfig

    recipe = options.make_backend(
        backend,
        upload=[f"{MATERIAL / 'broken-project'}:."],
        setup=SETUP,
        isolation=isolation,
    )
    return Agent(
        AgentConfig(
            system_prompt=SYSTEM_PROMPT,
            profile="developer",
            model=f"scripted:{MATERIAL / 'script.yaml'}" if model == "scripted" else model,
            backend=recipe,
        )
    )


async def _demo(agent: Agent, directory: Path | None, count: int, console: Console) -> bool:
    mended = await _one(agent, directory, console)
    if count:
        mended = await _many(agent, count, console) and mended
    return mended


async def _one(agent: Agent, directory: Path | None, console: Console) -> bool:
    from paddock.runtime.store import SessionStore

    store = SessionStore() if directory is None else SessionStore(directory)
    session = store.create_session(agent)
    started = time.monotonic()
    console.print(Rule("one agent, one sandbox", style="dim"))
    async with session:
        sandbox = await session.get_sandbox()
        _tell_sandbox(console, sandbox, time.monotonic() - started)
        witness = await Witness.start(sandbox)
        before = await snapshot(sandbox)
        narrator = Narrator(console)
        result = await session.run(prompt=PROMPT, max_turns=MAX_TURNS, on_event=narrator)
        narrator.finish_line()
        changes = list(diff(before, await snapshot(sandbox)))
        mended = (await sandbox.exec(TESTS)).ok
    console.print(Rule("what it changed", style="dim"))
    console.print(Text("\n").join(changes) if changes else Text("nothing"))
    console.print(Rule("afterwards", style="dim"))
    console.print(_facts(session, result, mended=mended, gone=witness.is_gone()))
    return mended


def _tell_sandbox(console: Console, sandbox: Sandbox, seconds: float) -> None:
    console.print(
        f"sandbox {sandbox.id} ({sandbox.backend}) in {seconds:.2f} s, project uploaded, set up "
        f"with: {'; '.join(SETUP)}"
    )
    console.print(f"it has: {', '.join(sorted(sandbox.capabilities))}", style="dim")


def _facts(session: Session, result: RunResult, *, mended: bool, gone: bool | None) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("tests", _verdict(mended, "they pass now", "they still fail"))
    table.add_row("run", Text(result.status))
    table.add_row("trace", Text(str(session.trace_path)))
    table.add_row("cost", Text(describe_usage(result.usage)))
    if gone is None:
        table.add_row("sandbox", Text("closed"))
    else:
        table.add_row("sandbox", _verdict(gone, "gone, with every process in it", "STILL THERE"))
    return table


def _verdict(good: bool, yes: str, no: str) -> Text:
    return Text(f"✓ {yes}", style="green") if good else Text(f"✗ {no}", style="bold red")


async def _many(agent: Agent, count: int, console: Console) -> bool:
    console.print(Rule(f"the same task in {count} sandboxes at once", style="dim"))
    columns = (TextColumn("mending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("mending", total=count)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_attempt(agent)) for _ in range(count)]
            for task in tasks:
                task.add_done_callback(lambda _: progress.advance(bar))
    outcomes = [task.result() for task in tasks]
    console.print(_outcomes(outcomes))
    console.print(f"{count} sandboxes in {time.monotonic() - started:.2f} s")
    return all(outcome.mended for outcome in outcomes)


async def _attempt(agent: Agent) -> Outcome:
    """One more sandbox and agent. An error is an outcome here: the others go on."""
    from paddock.runtime.session import Session

    started = time.monotonic()
    session = Session(agent)
    mended, usage, note = False, {}, ""
    try:
        async with session:
            sandbox = await session.get_sandbox()
            result = await session.run(prompt=PROMPT, max_turns=MAX_TURNS)
            usage, note = result.usage, result.status
            mended = (await sandbox.exec(TESTS)).ok
    except (PaddockError, OSError) as error:
        note = explain(error)
    return Outcome(
        name=session.id,
        mended=mended,
        seconds=time.monotonic() - started,
        usage=usage,
        note=note,
    )


def _outcomes(outcomes: Sequence[Outcome]) -> Table:
    table = Table("session", "tests", "seconds", "cost", "", box=None, padding=(0, 2))
    for outcome in outcomes:
        table.add_row(
            outcome.name,
            _verdict(outcome.mended, "pass", "fail"),
            f"{outcome.seconds:.2f}",
            describe_usage(outcome.usage),
            Text(one_line(outcome.note, 60)),
        )
    return table
