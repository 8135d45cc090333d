"""One prompt to one session, shown to a person or printed as its trace."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from paddock.cli.pipes import in_thread
from paddock.cli.provisioning import provisioning
from paddock.cli.render import Narrator, describe_call, describe_usage
from paddock.cli.settings import keep_quiet
from paddock.cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.results import AgentEvent, RunResult
    from paddock.runtime.session import Session

__all__ = ["Approver", "TraceLines", "converse"]

_EXIT_CODES = {"completed": 0, "cancelled": 130}


async def converse(session: Session, prompt: str, *, max_turns: int | None, as_json: bool) -> int:
    """Run `prompt` and close the session. Returns the exit code that tells how it went."""
    keep_quiet(session.redactor)
    approver = Approver()
    if not session.agent.config.auto_approve:
        session.approval_callback = approver
    async with session:
        if as_json:
            result = await _print_trace(session, prompt, max_turns)
        else:
            result = await _narrate(session, prompt, max_turns)
    if approver.was_alone:
        return 1
    return _EXIT_CODES.get(result.status, 1)


async def _print_trace(session: Session, prompt: str, max_turns: int | None) -> RunResult:
    lines = TraceLines()
    session.state.add_observer(lines)
    try:
        return await session.run(prompt=prompt, max_turns=max_turns, on_event=lines.flush)
    finally:
        await lines.flush()


async def _narrate(session: Session, prompt: str, max_turns: int | None) -> RunResult:
    console = Console(highlight=False)
    narrator = Narrator(console)

    async def show(event: AgentEvent) -> None:
        # An error may yet become an exception, and would then be told twice.
        if event.type != "error":
            await in_thread(lambda: narrator(event))

    try:
        with provisioning(beside=console) as session.on_provision:
            result = await session.run(prompt=prompt, max_turns=max_turns, on_event=show)
    finally:
        narrator.finish_line()
    for event in result.events:
        if event.type == "error":
            narrator(event)
    note = f"{result.status}: {describe_usage(result.usage)}"
    if session.directory is not None:
        note += f"\nsession {session.id}; go on with: paddock sessions resume {session.id} PROMPT"
    typer.echo(note, err=True)
    return result


class TraceLines:
    """An observer that prints what goes into the trace, without waiting inside the run."""

    def __init__(self) -> None:
        self._waiting: list[str] = []

    def on_event(self, event: dict[str, Any]) -> None:
        self._waiting.append(json.dumps(event, default=str))

    async def flush(self, _event: AgentEvent | None = None) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            await in_thread(lambda: print(*lines, sep="\n", flush=True))


class Approver:
    """Asks the person at the terminal, one question at a time; without one the answer is no.

    `was_alone` tells afterwards that somebody was missed.
    """

    def __init__(self) -> None:
        self.was_alone = False
        self._turn = asyncio.Lock()

    async def __call__(self, tool_name: str, arguments: Mapping[str, Any]) -> bool:
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            self.was_alone = True
            call = describe_call(tool_name, arguments)
            typer.echo(f"paddock: denied, nobody is there to approve it: {call}", err=True)
            typer.echo("  run it in a terminal, or with --auto-approve", err=True)
            return False
        shown = plain(json.dumps(dict(arguments), indent=2, ensure_ascii=False, default=str))
        question = f"\n{plain(tool_name)} {shown}\nAllow this call? [y/N] "
        async with self._turn:
            answer = await in_thread(lambda: _answer(question))
        return answer.strip().lower() in ("y", "yes")


def _answer(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()
