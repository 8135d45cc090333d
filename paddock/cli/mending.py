"""What `paddock demo` shows: an agent mends a broken project, in one sandbox and then in many.

Nothing in it is pretended: the model may be a script, but each of its tool calls runs
in the sandbox, and whether the project is mended is asked of the project's own tests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from paddock.cli.canary import Canary
from paddock.cli.errors import explain
from paddock.cli.provisioning import provisioning
from paddock.cli.recipes import make_backend
from paddock.cli.render import Narrator, describe_usage
from paddock.cli.sandbox_options import SandboxOptions
from paddock.cli.text import one_line
from paddock.cli.trees import diff, snapshot
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.fleet.dispatch import dispatch
from paddock.runtime.session.session import Session
from paddock.runtime.session.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from paddock.runtime.conversation.results import RunResult
    from paddock.runtime.fleet.results import TaskResult
    from paddock.sandbox import Sandbox

__all__ = ["make_agent", "mend"]

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
class Attempt:
    """How the agent of one sandbox did.

    `mended` is what the project's own tests say. `seconds` is the whole life of the
    sandbox, until it is gone.
    """

    sandbox_id: str
    mended: bool
    seconds: float
    result: RunResult


def make_agent(
    backend: str | None, model: str, isolation: str | None, secrets: Mapping[str, str]
) -> Agent:
    """The agent whose sandboxes begin with the broken project. See `make_backend` for errors."""
    asked = SandboxOptions(
        backend=backend,
        upload=[f"{MATERIAL / 'broken-project'}:."],
        setup=[*SETUP],
        isolation=isolation,
    )
    return Agent(
        AgentConfig(
            system_prompt=SYSTEM_PROMPT,
            profile="developer",
            model=f"scripted:{MATERIAL / 'script.yaml'}" if model == "scripted" else model,
            backend=make_backend(asked, secrets=secrets),
        )
    )


async def mend(agent: Agent, directory: Path | None, count: int) -> bool:
    """Show it, in one sandbox and in `count` more at once. Returns whether all were mended."""
    console = Console(highlight=False)
    mended = await _one(agent, directory, console)
    if count:
        mended = await _many(agent, count, console) and mended
    return mended


async def _one(agent: Agent, directory: Path | None, console: Console) -> bool:
    store = SessionStore() if directory is None else SessionStore(directory)
    session = store.create_session(agent)
    started = time.monotonic()
    console.print(Rule("one agent, one sandbox", style="dim"))
    async with session:
        with provisioning() as session.on_provision:
            sandbox = await session.get_sandbox()
        _tell_sandbox(console, sandbox, time.monotonic() - started)
        canary = await Canary.start(sandbox)
        before = await snapshot(sandbox)
        narrator = Narrator(console)
        result = await session.run(prompt=PROMPT, max_turns=MAX_TURNS, on_event=narrator)
        narrator.finish_line()
        changes = list(diff(before, await snapshot(sandbox)))
        mended = (await sandbox.exec(TESTS)).ok
    console.print(Rule("what it changed", style="dim"))
    console.print(Text("\n").join(changes) if changes else Text("nothing"), soft_wrap=True)
    console.print(Rule("afterwards", style="dim"))
    for name, value in _facts(session, result, mended=mended, gone=await canary.is_gone()):
        console.print(Text.assemble((f"{name:<9}", "bold"), value), soft_wrap=True)
    return mended


def _tell_sandbox(console: Console, sandbox: Sandbox, seconds: float) -> None:
    can = ", ".join(sorted(sandbox.capabilities))
    console.print(
        f"{sandbox.backend} sandbox {sandbox.id}, made in {seconds:.2f} s: {can}\n"
        f"the project is uploaded and set up: {'; '.join(SETUP)}",
        soft_wrap=True,
    )


def _facts(
    session: Session, result: RunResult, *, mended: bool, gone: bool | None
) -> Iterator[tuple[str, Text]]:
    yield "run", Text(result.status)
    yield "tests", _verdict(mended, "they pass now", "they still fail")
    if session.directory is not None:
        yield "trace", Text(str(session.directory.trace))
    pretended = " (as the script counts)" if _is_scripted(session.agent.config.model) else ""
    yield "cost", Text(describe_usage(result.usage) + pretended)
    if gone is None:
        yield "sandbox", Text("closed")
    else:
        yield "sandbox", _verdict(gone, "gone, with every process in it", "STILL THERE")


def _is_scripted(model: str) -> bool:
    return model.startswith("scripted:")


def _verdict(good: bool, yes: str, no: str) -> Text:
    return Text(f"✓ {yes}", style="green") if good else Text(f"✗ {no}", style="bold red")


async def _many(agent: Agent, count: int, console: Console) -> bool:
    console.print(Rule(f"the same task in {count} sandboxes at once", style="dim"))
    columns = (TextColumn("mending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("mending", total=count)
        outcomes = await dispatch(
            [lambda: _attempt(agent)] * count,
            concurrency=count,
            on_update=lambda update: progress.advance(bar, int(update.outcome is not None)),
        )
    console.print(_table(outcomes))
    console.print(f"{count} sandboxes in {time.monotonic() - started:.2f} s")
    return all(outcome.result is not None and outcome.result.mended for outcome in outcomes)


async def _attempt(agent: Agent) -> Attempt:
    """One more sandbox and agent."""
    started = time.monotonic()
    async with Session(agent) as session:
        sandbox = await session.get_sandbox()
        result = await session.run(prompt=PROMPT, max_turns=MAX_TURNS)
        mended = (await sandbox.exec(TESTS)).ok
    return Attempt(
        sandbox_id=sandbox.id,
        mended=mended,
        seconds=time.monotonic() - started,
        result=result,
    )


def _table(outcomes: Sequence[TaskResult[Attempt]]) -> Table:
    table = Table("sandbox", "tests", "seconds", "in", "out", "USD", "run", box=None)
    for outcome in outcomes:
        attempt = outcome.result
        if attempt is None:
            why = explain(outcome.error) if outcome.error else outcome.status
            table.add_row("-", _verdict(False, "pass", "fail"), *"----", Text(one_line(why, 60)))
            continue
        usage = attempt.result.usage
        table.add_row(
            attempt.sandbox_id,
            _verdict(attempt.mended, "pass", "fail"),
            f"{attempt.seconds:.2f}",
            f"{usage.get('input_tokens', 0):,}",
            f"{usage.get('output_tokens', 0):,}",
            f"{usage.get('cost_usd', 0.0):.4f}",
            attempt.result.status,
        )
    return table
