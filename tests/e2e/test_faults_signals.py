"""Ctrl-C at a real terminal, and signals to the real process: nothing of a sandbox stays.

Row C47 of the reliability document. The terminal's own line discipline makes the signals.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Paddock

LEAVING = 5.0
"""Seconds that the first signal leaves for clean-up, and the second for the reaper."""

PATIENCE = 60.0
CTRL_C = b"\x03"

pytestmark = pytest.mark.rows("C47")


class Terminal:
    """A controlling terminal with `paddock` in its foreground."""

    def __init__(self, paddock: Paddock, *args: str) -> None:
        self._ours, theirs = pty.openpty()
        self.seen = ""
        try:
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *paddock.command(*args)],
                cwd=paddock.cwd,
                env=paddock.environment | {"TERM": "xterm-256color"},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
            )
        finally:
            os.close(theirs)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert ready, f"{text!r} did not come: {self.seen}"
            self.seen += os.read(self._ours, 65536).decode()

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def end(self) -> int:
        """Read to the end; the exit code."""
        try:
            while data := os.read(self._ours, 65536):
                self.seen += data.decode()
        except OSError:
            pass  # Linux says EIO where the other end of a terminal has gone
        os.close(self._ours)
        return self.process.wait(PATIENCE)


def _running(mark: str) -> list[int]:
    """The processes of this machine that sleep for `mark` seconds."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{mark}\0".encode():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _wait_for_end(mark: str) -> None:
    """Until the guests that lost their host have ended what they ran."""
    deadline = time.monotonic() + LEAVING
    for process in _running(mark):
        try:
            watched = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([watched], [], [], deadline - time.monotonic())
            assert ended, f"process {process} outlived its host"
        finally:
            os.close(watched)
    assert not _running(mark)


@pytest.fixture(params=["exec", "run"])
def started(request: pytest.FixtureRequest, paddock: Paddock) -> Callable[[str], Terminal]:
    """Starts a command, by hand or by an agent, that ignores SIGTERM and has a daemon."""

    def start(mark: str) -> Terminal:
        command = f"trap '' TERM; setsid sleep {mark} & sleep {mark}; sleep {mark}"
        if request.param == "exec":
            terminal = Terminal(paddock, "exec", "--", "sh", "-c", command)
        else:
            turns = [{"tool_calls": [{"name": "bash", "arguments": {"command": command}}]}]
            (paddock.cwd / "script.yaml").write_text(json.dumps([*turns, {"text": "Never."}]))
            model = ("--model", "scripted:script.yaml")
            args = ("run", "Wait", *model, "--profile", "developer", "-y")
            terminal = Terminal(paddock, *args)
        deadline = time.monotonic() + PATIENCE
        while len(_running(mark)) < 2:
            assert time.monotonic() < deadline, terminal.seen
            select.select([], [], [], 0.01)  # nothing tells that a process has started
        return terminal

    return start


def _mark(number: int) -> str:
    return f"36{number}.{os.getpid()}"


def test_ctrl_c_takes_everything_down(started: Callable[[str], Terminal]) -> None:
    mark = _mark(1)
    terminal = started(mark)
    begun = time.monotonic()
    terminal.type(CTRL_C)
    assert terminal.end() == 128 + signal.SIGINT
    assert time.monotonic() - begun < LEAVING
    assert not _running(mark)
    assert "Traceback" not in terminal.seen


def test_ctrl_c_twice_ends_it_at_once_and_the_sandbox_follows(
    started: Callable[[str], Terminal],
) -> None:
    mark = _mark(2)
    terminal = started(mark)
    terminal.type(CTRL_C)
    terminal.wait_for("again to leave at once")
    terminal.type(CTRL_C)
    assert terminal.end() == -signal.SIGINT  # by the kernel, in the middle of the clean-up
    _wait_for_end(mark)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_everything_down(
    started: Callable[[str], Terminal], number: signal.Signals
) -> None:
    mark = _mark(3 + number)
    terminal = started(mark)
    begun = time.monotonic()
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert time.monotonic() - begun < LEAVING
    assert not _running(mark)
    assert "Traceback" not in terminal.seen
