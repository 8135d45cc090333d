"""A real terminal for one process: what a person sees in it, and types."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from tests.e2e.conftest import Paddock

__all__ = ["CTRL_C", "CTRL_D", "ESC_ENTER", "READY", "Terminal"]

PATIENCE = 60.0
READY = "⌨"
CTRL_C, CTRL_D, ESC_ENTER = "\x03", "\x04", "\x1b\r"

_READING = "\x1b[?2004h"
"""Turns bracketed paste on."""

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")


class Terminal:
    """`paddock` in the foreground of a terminal of its own; it is killed with the block."""

    def __init__(self, paddock: Paddock, *args: str, env: dict[str, str] | None = None) -> None:
        self._ours, theirs = pty.openpty()
        self.raw = ""
        settings = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        try:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *paddock.command(*args)],
                cwd=paddock.cwd,
                env=paddock.environment | settings | (env or {}),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
            )
        finally:
            os.close(theirs)
        self._open = True
        self._from = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open:
            self.hang_up()
        self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def seen(self) -> str:
        """All that was shown, without its colours and the moves of the cursor; `READY` stands
        where a line began to be read."""
        return _STYLE.sub("", self.raw.replace(_READING, READY))

    def wait_for(self, text: str) -> None:
        """Until `text` is shown after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (at := self.seen.find(text, self._from)) < 0:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._ours], [], [], left)
            assert ready, f"{text!r} did not come: {self.seen[self._from :]}"
            self._read()
        self._from = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def hang_up(self) -> None:
        """Close the window."""
        self._open = False
        os.close(self._ours)

    def end(self) -> int:
        """Read to the end; the exit code."""
        try:
            while True:
                self._read()
        except OSError:
            pass  # Linux says EIO where the other end of a terminal has gone
        return self.process.wait(PATIENCE)

    def _read(self) -> None:
        data = os.read(self._ours, 65536)
        if not data:
            raise OSError("the terminal has ended")
        self.raw += data.decode(errors="replace")
