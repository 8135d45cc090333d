"""Lines from a person at a terminal, or from a pipe: one reader for both.

At a terminal there is a history in the configuration directory; Enter sends, Esc and then
Enter begins a new line. Knows no command.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from paddock._directory import PrivateDirectory
from paddock._places import config_directory
from paddock.cli.pipes import in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

__all__ = ["LineReader", "PipedLines", "TerminalLines", "ask", "is_terminal", "open_reader"]


class LineReader(Protocol):
    """Where lines come from."""

    async def read(self) -> str:
        """The next line, without its end; `EOFError` when there is none."""
        ...


def is_terminal() -> bool:
    """Whether a person may type here, and see what is shown."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())


def open_reader(prompt: str, *, history: str) -> LineReader:
    """A reader of this process's stdin; `history` is the name of the history's file."""
    return TerminalLines(prompt, history) if is_terminal() else PipedLines()


class PipedLines:
    """The lines of stdin, for a program that types."""

    async def read(self) -> str:
        line: str = await in_thread(sys.stdin.readline) if sys.stdin else ""
        if not line:
            raise EOFError
        return line.rstrip("\n")


class TerminalLines:
    """Reads at a terminal, with an editor for the line."""

    def __init__(self, prompt: str, history: str) -> None:
        from prompt_toolkit import PromptSession

        self._prompt = prompt
        self._session: PromptSession[str] = PromptSession(
            history=_open_history(history), key_bindings=_bindings()
        )

    async def read(self) -> str:
        """Ctrl-C drops what was typed; once more, or Ctrl-D, is an `EOFError`."""
        warned = False
        while True:
            try:
                return await _prompted(self._session, self._prompt)
            except KeyboardInterrupt:
                if warned:
                    raise EOFError from None
                warned = True
                print("(Ctrl-C once more, Ctrl-D or exit leaves)", file=sys.stderr, flush=True)


async def ask(question: str) -> str:
    """One answer at the terminal, in no history; not one that was typed before.

    `KeyboardInterrupt` for Ctrl-C, and `EOFError` for Ctrl-D. Cancelled, the terminal is as
    it was.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.input.typeahead import clear_typeahead

    session: PromptSession[str] = PromptSession()
    clear_typeahead(session.input)  # what came with the line before
    return await _prompted(session, question)


async def _prompted(session: PromptSession[str], prompt: str) -> str:
    # Signals stay ours: Ctrl-C is a key while a line is edited.
    line: str = await session.prompt_async(prompt, handle_sigint=False, set_exception_handler=False)
    return line


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


def _open_history(name: str) -> History:
    """The history in its file; one that is forgotten where that cannot be written."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = config_directory() / name
    try:
        _make_private(path)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


def _make_private(path: Path) -> None:
    """Create the file if it is missing, readable by its user only: it holds prompts."""
    files = PrivateDirectory(path.parent, shared=True)
    files.make()
    files.touch(path.name)
