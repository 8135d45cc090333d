"""``paddock monitor``: watching and steering sessions that run in other processes."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from paddock.cli.following import follow
from paddock.cli.lines import is_terminal, open_reader
from paddock.cli.pipes import in_thread
from paddock.cli.repl import Repl
from paddock.cli.running import run
from paddock.cli.steering import (
    Directory,
    choose,
    existing_store,
    table,
    watched,
)
from paddock.cli.timeline import Timeline
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rich.table import Table
    from rich.text import Text

    from paddock.cli.lines import LineReader
    from paddock.cli.steering import Watched
    from paddock.runtime.session.store import SessionStore

__all__ = ["Monitor", "monitor"]

HELP = """\
  ps                        the sessions that run, and those that died
  watch PREFIX              what one does, as it does it; Ctrl-C ends the watching
  cancel PREFIX|all         stop it; its history stays whole
  pause [PREFIX|all]        let it wait before its next call of the model
  resume [PREFIX|all]       let it continue
  directive PREFIX TEXT     tell it something, which it hears before its next call
  help                      this
  quit                      leave; the sessions keep running

PREFIX is a session's id or the beginning of one. Where only one session runs, `watch`,
`pause` and `resume` need none."""


def monitor(directory: Directory = None) -> None:
    """Watch, pause, direct and cancel running sessions from another terminal.

    It reads commands: ps, watch, cancel, pause, resume, directive, help, quit. They may
    come from a pipe; the exit code is then 1 if one of them failed.

        paddock monitor

        echo "directive 3f2a Leave the tests alone." | paddock monitor ./sessions
    """
    shown = Monitor(existing_store(directory), open_reader("monitor> ", history="monitor-history"))
    raise typer.Exit(run(shown.run(), on_interrupt=shown.interrupt))


class Monitor:
    """The sessions of `store`, by commands that `reader` gives."""

    def __init__(self, store: SessionStore, reader: LineReader) -> None:
        self._store = store
        self._console = Console(highlight=False)
        self._repl = Repl(reader, self._handle)
        self.interrupt = self._repl.interrupt
        self._commands: Mapping[str, Callable[[str], Awaitable[None]]] = {
            "ps": self._ps,
            "watch": self._watch,
            "cancel": self._cancel,
            "pause": self._pause,
            "resume": self._resume,
            "directive": self._directive,
            "help": self._help,
        }

    async def run(self) -> int:
        """Until there are no more commands. The exit code tells whether all went well."""
        if is_terminal():
            await self._ps("")
            await self._say("help tells what can be said")
        await self._repl.run()
        return int(self._repl.failed and not is_terminal())

    async def _handle(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        command = self._commands.get(name)
        if command is None:
            raise ConfigError(f"there is no command {name}; help lists them")
        await command(rest.strip())

    async def _say(self, shown: str | Text | Table) -> None:
        """Show it, however slowly it is read."""
        await in_thread(lambda: self._console.print(shown, soft_wrap=True, markup=False))

    async def _choose(self, prefix: str) -> list[Watched]:
        return await in_thread(lambda: choose(self._store, prefix))

    async def _ps(self, _rest: str) -> None:
        found = await in_thread(lambda: watched(self._store))
        await self._say(table(found) if found else "no session is running")

    async def _watch(self, prefix: str) -> None:
        if prefix == "all":
            raise ConfigError("one is watched at a time: say watch PREFIX")
        for session in await self._choose(prefix):
            timeline = Timeline()
            async with contextlib.aclosing(follow(session.directory)) as pieces:
                async for records in pieces:
                    for record in records:
                        if (line := timeline.render_record(record)) is not None:
                            await self._say(line)
            await self._say(f"{session.id} is no longer running")

    async def _cancel(self, prefix: str) -> None:
        if not prefix:
            raise ConfigError("say cancel PREFIX, or cancel all")
        for session in await self._choose(prefix):
            session.directory.request_cancel()
            await self._say(f"asked {session.id} to stop")

    async def _pause(self, prefix: str) -> None:
        for session in await self._choose(prefix):
            session.directory.request_pause()
            await self._say(f"{session.id} waits before its next call of the model")

    async def _resume(self, prefix: str) -> None:
        for session in await self._choose(prefix):
            session.directory.clear_pause()
            await self._say(f"{session.id} continues")

    async def _directive(self, rest: str) -> None:
        prefix, _, text = rest.partition(" ")
        if not text.strip():
            raise ConfigError("say directive PREFIX TEXT")
        for session in await self._choose(prefix):
            await in_thread(partial(session.directory.add_directive, text.strip()))
            await self._say(f"{session.id} will hear it before its next call of the model")

    async def _help(self, _rest: str) -> None:
        await self._say(HELP)
