"""Asking a person at a real terminal before a dangerous call."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

PATIENCE = 60.0
SCRIPT = [
    {
        "tool_calls": [
            {"name": "bash", "arguments": {"command": "rm -rf data; echo \x1b[2Jdone\u202e"}},
            {"name": "bash", "arguments": {"command": "rm -rf other; echo second"}},
        ]
    },
    {"text": "The end."},
]


class Terminal:
    """What a person sees and types. `seen` holds all that was shown."""

    def __init__(self, paddock: Paddock, *args: str) -> None:
        self._ours, theirs = pty.openpty()
        self.seen = ""
        try:
            self.process = subprocess.Popen(
                paddock.command(*args),
                cwd=paddock.cwd,
                env=paddock.environment | {"TERM": "xterm-256color"},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.seen.count(text) < times:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} did not come: {self.seen}"
            self.seen += os.read(self._ours, 65536).decode()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        try:
            while data := os.read(self._ours, 65536):
                self.seen += data.decode()
        except OSError:
            pass  # Linux says EIO where the other end of a terminal has gone
        os.close(self._ours)
        return self.process.wait(PATIENCE)


@pytest.fixture
def args(paddock: Paddock) -> tuple[str, ...]:
    (paddock.cwd / "script.yaml").write_text(json.dumps(SCRIPT))
    return ("run", "Clean up", "--model", "scripted:script.yaml", "--profile", "developer.yaml")


@pytest.fixture(autouse=True)
def _profile(paddock: Paddock) -> None:
    (paddock.cwd / "developer.yaml").write_text(
        "profile: careful\nshell: {mode: unrestricted}\napproval: {mode: all}\n"
    )


@pytest.mark.rows("S-26")
def test_calls_are_approved_one_by_one(paddock: Paddock, args: tuple[str, ...]) -> None:
    terminal = Terminal(paddock, *args)
    terminal.wait_for("Allow this call?")
    terminal.type("y\n")
    terminal.wait_for("Allow this call?", times=2)
    terminal.type("y\n")
    terminal.wait_for("The end.")
    assert terminal.end() == 0
    assert "second" in terminal.seen


@pytest.mark.rows("S-26")
def test_anything_but_yes_is_no(paddock: Paddock, args: tuple[str, ...]) -> None:
    terminal = Terminal(paddock, *args)
    terminal.wait_for("Allow this call?")
    terminal.type("\n")
    terminal.end()
    assert "not allowed" in terminal.seen
    assert "✓ bash" not in terminal.seen


def test_a_question_shows_a_call_without_obeying_it(
    paddock: Paddock, args: tuple[str, ...]
) -> None:
    terminal = Terminal(paddock, *args)
    terminal.wait_for("Allow this call?")
    assert "rm -rf data" in terminal.seen
    assert "\x1b[2J" not in terminal.seen
    assert "\u202e" not in terminal.seen
    terminal.type("n\n")
    terminal.end()
    assert "\x1b[2J" not in terminal.seen
    assert "\u202e" not in terminal.seen


def test_ctrl_c_at_a_question_ends_the_run(paddock: Paddock, args: tuple[str, ...]) -> None:
    terminal = Terminal(paddock, *args)
    terminal.wait_for("Allow this call?")
    terminal.process.send_signal(2)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
