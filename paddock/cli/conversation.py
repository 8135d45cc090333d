"""One prompt to one session, shown to a person or printed as its trace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import termios
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from paddock.cli.pipes import in_thread
from paddock.cli.provisioning import provisioning
from paddock.cli.render import PREVIEW_LINES, Narrator, describe_call, describe_usage
from paddock.cli.settings import keep_quiet
from paddock.cli.telemetry import observed
from paddock.cli.text import plain
from paddock.runtime.conversation.records import records
from paddock.runtime.conversation.state import stamped
from paddock.runtime.core.approval import Decision
from paddock.runtime.core.emitter import EventSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from paddock.cli.options import ApprovalWay
    from paddock.runtime.conversation.results import AgentEvent, RunResult
    from paddock.runtime.core.content import Prompt
    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.session.session import Session

__all__ = [
    "Approver",
    "TraceLines",
    "check_new_file",
    "converse",
    "forget_what_was_typed",
    "narrate",
]

_EXIT_CODES = {"completed": 0, "cancelled": 130}


async def converse(
    session: Session,
    prompt: Prompt | None,
    *,
    approves_all: bool,
    approvals: ApprovalWay = "ask",
    max_turns: int | None,
    as_json: bool,
    output: Path | None = None,
    preview_lines: int = PREVIEW_LINES,
) -> int:
    """Run `prompt`, or resume without one, and close the session. Returns the exit code that
    tells how it went.

    The answer of a run that completes goes to the new file `output` too.
    """
    keep_quiet(session.redactor)
    approver = Approver(approves_all=approves_all)
    if approvals != "ask":
        session.approval_wait = approvals == "wait"
    elif not session.agent.config.auto_approve:
        session.approval_callback = approver
    async with session, observed(session):
        if as_json:
            result = await _print_trace(session, prompt, max_turns)
        else:
            result = await _narrate(session, prompt, max_turns, preview_lines)
    if output is not None and result.status == "completed":
        _write_answer(output, result.text)
    if approver.was_alone:
        return 1
    return _EXIT_CODES.get(result.status, 1)


async def _print_trace(session: Session, prompt: Prompt | None, max_turns: int | None) -> RunResult:
    lines = TraceLines(session)
    try:
        return await _run(session, prompt, max_turns=max_turns, sinks=[lines])
    finally:
        await lines.flush()


async def _run(session: Session, prompt: Prompt | None, **options: Any) -> RunResult:
    if prompt is None:
        return await session.resume(**options)
    return await session.run(prompt, **options)


async def _narrate(
    session: Session, prompt: Prompt | None, max_turns: int | None, preview_lines: int
) -> RunResult:
    console = Console(highlight=False)
    result = await narrate(session, prompt, console, max_turns, preview_lines)
    note = f"{result.status}: {describe_usage(result.usage)}"
    if result.interruptions:
        note += (
            "\nanswer what waits with: paddock approvals list, paddock approvals answer ID\n"
            f"then continue with: paddock sessions resume {session.id}"
        )
    elif session.directory is not None:
        note += (
            f"\nsession {session.id}; resume it with: paddock sessions resume {session.id} PROMPT"
        )
    typer.echo(note, err=True)
    return result


async def narrate(
    session: Session,
    prompt: Prompt | None,
    console: Console,
    max_turns: int | None,
    preview_lines: int = PREVIEW_LINES,
) -> RunResult:
    """Run `prompt` and show on `console` what happens, as it happens."""
    narrator = Narrator(console, preview_lines)

    async def show(event: AgentEvent) -> None:
        # An error may yet become an exception, and would then be told twice.
        if event.type != "error":
            await in_thread(lambda: narrator(event))

    try:
        with provisioning(beside=console) as session.on_provision:
            result = await _run(session, prompt, max_turns=max_turns, on_event=show)
    finally:
        narrator.finish_line()
    for event in result.events:
        if event.type == "error":
            narrator(event)
    return result


def check_new_file(path: Path | None) -> None:
    """Raise `FileExistsError` or `FileNotFoundError` where no file could be made."""
    if path is None:
        return
    if path.exists() or path.is_symlink():
        raise FileExistsError(17, "it exists, and is not written over", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "no such directory", str(path.parent))


def _write_answer(path: Path, text: str) -> None:
    """Write `text` to a new file; `FileExistsError` if somebody made one meanwhile."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text if text.endswith("\n") else f"{text}\n")


class TraceLines(EventSink):
    """Prints what goes into the trace of `session`, without waiting where it is written."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: list[str] = []

    def keep(self, envelope: Envelope) -> None:
        if envelope.session_id == self._session.id:
            for record in records(envelope.event):
                self._waiting.append(json.dumps(stamped(record, envelope.at), default=str))

    async def show(self, envelope: Envelope) -> None:
        await self.flush()

    async def flush(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            await in_thread(lambda: print(*lines, sep="\n", flush=True))


class Approver:
    """Asks the person at the terminal, one question at a time; without one the answer is no.

    What is typed beside yes and no is the reason for a refusal. `read_answer` shows a question of
    one line and returns what was typed. `was_alone` says afterwards that somebody was missed.
    `approves_all` is for a user who wants no more questions.
    """

    def __init__(
        self,
        read_answer: Callable[[str], Awaitable[str]] | None = None,
        *,
        approves_all: bool = False,
    ) -> None:
        self.was_alone = False
        self.approves_all = approves_all
        self._read_answer = read_answer or _read_line
        self._turn = asyncio.Lock()

    async def __call__(self, tool_name: str, arguments: Mapping[str, Any]) -> bool | Decision:
        if self.approves_all:
            return True
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            self.was_alone = True
            call = describe_call(tool_name, arguments)
            typer.echo(f"paddock: denied, no user is there to approve it: {call}", err=True)
            typer.echo(
                "  run it in a terminal, or with --approvals later or --auto-approve", err=True
            )
            return False
        shown = plain(json.dumps(dict(arguments), indent=2, ensure_ascii=False, default=str))
        async with self._turn:
            forget_what_was_typed()
            print(f"\n{plain(tool_name)} {shown}", file=sys.stderr, flush=True)
            answer = await self._read_answer("Allow this call? [y/N] ")
        return _decision(answer.strip())


def _decision(answer: str) -> bool | Decision:
    """Return what a person has typed; more than no is a reason, which the model reads."""
    if answer.lower() in ("", "y", "yes", "n", "no"):
        return answer.lower() in ("y", "yes")
    return Decision(outcome="reject", feedback=answer, by="terminal")


def forget_what_was_typed() -> None:
    """Who typed before the question was there has not answered it."""
    with contextlib.suppress(termios.error):
        termios.tcflush(0, termios.TCIFLUSH)


async def _read_line(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return await in_thread(sys.stdin.readline)
