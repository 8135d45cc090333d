"""``paddock`` at a terminal: a conversation with one agent, in one sandbox.

What is no command goes to the agent. Knows how to read no line and how to show no event.
"""

from __future__ import annotations

import dataclasses
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from paddock.cli import slash
from paddock.cli.conversation import Approver, narrate
from paddock.cli.lines import ask, open_reader
from paddock.cli.pipes import in_thread
from paddock.cli.render import describe_usage
from paddock.cli.repl import Repl
from paddock.cli.sessions import find_session
from paddock.cli.settings import keep_quiet
from paddock.cli.telemetry import check_telemetry, observed
from paddock.cli.text import one_line, plain
from paddock.errors import ConfigError, SandboxLost
from paddock.redaction import NOTHING_SECRET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from paddock.redaction import Redactor
    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.session.session import Session
    from paddock.runtime.session.store import SessionStore

__all__ = ["Chat"]

_COMMAND = re.compile(r"/[a-z]*")
"""A prompt may begin with a path; that has another slash, or a dot."""

LISTED = 10
"""Sessions that are offered to be resumed."""


class Chat:
    """One session of `agent` after the other, with a person; `store` is where the others are.

    Begins with `session`, or with one that `create` makes for the first prompt: a user who leaves
    before leaves none behind. Those that are resumed get `secrets`. `interrupt` is for Ctrl-C:
    it ends the current turn.
    """

    def __init__(
        self,
        agent: Agent,
        store: SessionStore,
        *,
        session: Session | None,
        create: Callable[[Agent], Session],
        secrets: Mapping[str, str],
        approves_all: bool,
        max_turns: int | None,
        preview_lines: int,
    ) -> None:
        self._agent = agent
        self._store = store
        self._first = session
        self._session: Session | None = None
        self._taken = AsyncExitStack()
        self._create = create
        self._secrets = secrets
        self._max_turns = max_turns
        self._preview_lines = preview_lines
        self._console = Console(highlight=False)
        approves_all = approves_all or agent.config.auto_approve
        self._approver = Approver(self._read_answer, approves_all=approves_all)
        reader = open_reader("> ", history="history")
        self._repl = Repl(reader, self._handle, redactor=self._redactor)
        self.interrupt = self._repl.interrupt
        self._commands: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "/help": self._help,
            "/approve": self._approve,
            "/compact": self._compact,
            "/write": self._write,
            "/resume": self._resume,
            "/download": self._download,
            "/cost": self._cost,
        }

    async def run(self) -> int:
        """Until the person leaves; then the sandbox is taken down. Returns the exit code.

        Before the first question it raises `ConfigError` where there is no way to the model, and
        `ObservabilityInitializationError` where telemetry cannot be kept.
        """
        await _check_model(self._agent)
        await check_telemetry()
        self._say(f"{plain(self._agent.config.model)}; /help tells what can be said")
        try:
            if self._first is not None:
                await self._take(self._first)
            await self._repl.run()
        finally:
            await self._taken.aclose()
        self._say_farewell()
        return 0

    def _redactor(self) -> Redactor:
        return NOTHING_SECRET if self._session is None else self._session.redactor

    def _begun(self) -> Session:
        if self._session is None:
            raise ConfigError("there is nothing yet: the conversation begins with a prompt")
        return self._session

    async def _take(self, session: Session) -> Session:
        """Go on with this session, and close the one before."""
        keep_quiet(session.redactor)
        taken = AsyncExitStack()
        try:
            await taken.enter_async_context(session)
            await taken.enter_async_context(observed(session))
        except BaseException:
            await taken.aclose()
            raise
        session.approval_callback = self._approver
        if self._session is not None:
            session.system_prompt = self._session.system_prompt
        self._session = session
        before, self._taken = self._taken, taken
        await before.aclose()
        return session

    def _say(self, text: str) -> None:
        self._console.print(Text(text, style="dim"), soft_wrap=True)

    def _say_farewell(self) -> None:
        session = self._session
        if session is not None and session.directory is not None:
            typer.echo(
                f"session {session.id}; resume it with: paddock run --resume {session.id}", err=True
            )

    async def _read_answer(self, question: str) -> str:
        """An answer about a call; Ctrl-C cancels the turn that asks, Ctrl-D is a no."""
        try:
            return await ask(question)
        except KeyboardInterrupt:
            self.interrupt()
        except EOFError:
            pass
        return ""

    async def _handle(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if not _COMMAND.fullmatch(name):
            return await self._prompt(line)
        command = self._commands.get(name)
        if command is None:
            raise ConfigError(f"there is no command {name}; /help lists them")
        return await command(rest.strip())

    async def _prompt(self, text: str) -> None:
        session = self._session or await self._take(self._create(self._agent))
        try:
            result = await narrate(
                session, text, self._console, self._max_turns, self._preview_lines
            )
        except SandboxLost:
            session.renew_sandbox()  # the next turn gets one that is there
            raise
        self._say(f"{result.status}: {describe_usage(result.usage)}")

    # ---------------------------------------------------------------------- commands

    async def _help(self, _rest: str) -> None:
        self._console.print(Text(slash.HELP), soft_wrap=True)

    async def _approve(self, _rest: str) -> None:
        self._approver.approves_all = not self._approver.approves_all
        if self._approver.approves_all:
            self._say("dangerous calls run without a question from now on; /approve undoes it")
        else:
            self._say("asks before dangerous calls")

    async def _compact(self, instructions: str) -> None:
        done = await self._begun().compact(instructions)
        self._say(f"compacted: about {done.tokens_before:,} -> {done.tokens_after:,} tokens")
        self._console.print(Text(plain(done.summary)), soft_wrap=True)

    async def _write(self, wanted: str) -> None:
        if wanted in ("on", "off"):
            self._agent = slash.with_writing(self._agent, wanted == "on")
            # It may say what is allowed.
            prompt = await in_thread(self._agent.config.resolve_system_prompt)
            if self._session is not None:
                self._session.use(self._agent)
                self._session.system_prompt = prompt
        elif wanted not in ("", "status"):
            raise ConfigError("say /write on, /write off or /write status")
        self._say(slash.describe_writing(self._agent))

    async def _resume(self, name: str) -> None:
        if not name:
            return await self._offer()
        resumed = await in_thread(
            lambda: self._store.resume(
                find_session(self._store, name), self._agent, secrets=self._secrets
            )
        )
        await self._take(resumed)
        return self._say(f"resumed {resumed.id}, in a new sandbox")

    async def _offer(self) -> None:
        for info in await in_thread(lambda: self._store.list(LISTED)):
            self._say(f"{info.id}  {info.status}  {one_line(info.first_prompt, 60)}")
        self._say("/resume ID resumes one")

    async def _download(self, rest: str) -> None:
        asked = slash.parse_download(rest)
        sandbox = await self._begun().get_sandbox()
        transfer = await sandbox.fs.download(
            asked.remote,
            asked.local,
            ignore=asked.ignore,
            gitignore=asked.gitignore,
            links=asked.links,
        )
        left_out = f"; {transfer}" if transfer.left_out_total else ""
        self._say(plain(f"wrote {asked.local}{left_out}"))

    async def _cost(self, _rest: str) -> None:
        self._say(describe_usage(dataclasses.asdict(self._begun().state.total)))


async def _check_model(agent: Agent) -> None:
    """Raise what the first turn would raise for want of a key or of a package."""
    client = await agent.connect()
    await client.aclose()
