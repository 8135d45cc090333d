"""What a person and a program see of `paddock` while it makes a sandbox."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

PATIENCE = 60.0
SHOWN, HIDDEN, ERASED = "\x1b[?25h", "\x1b[?25l", "\x1b[2K"
EVIL = "\x1b[2J\x1b]0;title\x07"
SETUP = f"echo set up > made # {EVIL}"
OUTPUT = "from here\nset up\n"


class Watcher:
    """A person at a terminal that has stderr, and stdout too unless it is `piped`.

    Looks at a command of ours, or at a Python `program`.
    """

    def __init__(
        self, paddock: Paddock, *args: str, piped: bool = False, program: str = ""
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.seen = ""
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program] if program else paddock.command(*args),
                cwd=paddock.cwd,
                env=paddock.environment | {"TERM": "xterm-256color"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            if not (ready and self._read()):
                self.process.kill()
                self.end()
                pytest.fail(f"{text!r} did not come: {self.seen!r}")

    def end(self) -> str:
        """Read to the end; what came through the pipe."""
        while self._read():
            pass
        os.close(self._ours)
        out, _ = self.process.communicate(timeout=PATIENCE)
        return out.decode() if out else ""

    def _read(self) -> bool:
        """Whether there was more to see."""
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False  # Linux says EIO where the other end of a terminal has gone
        self.seen += self._decoder.decode(data)
        return bool(data)

    @property
    def left(self) -> str:
        """What comes after the status was erased for the last time."""
        assert self.seen.rfind(SHOWN) > self.seen.rfind(HIDDEN), "the cursor is hidden"
        return self.seen.rpartition(ERASED)[2]


@pytest.fixture
def in_docker(paddock: Paddock, base_image: str) -> tuple[str, ...]:
    """A command in a container that has an upload and a setup."""
    (paddock.cwd / "tree").mkdir()
    (paddock.cwd / "tree" / "a.txt").write_text("from here\n")
    return (
        "exec", "--backend", "docker", "--image", base_image, "--upload", "tree:work",
        "--setup", SETUP, "--", "cat", "work/a.txt", "made",
    )  # fmt: skip


def steps(told: str) -> list[str]:
    """The lines, but for those that only a machine which is busy gets."""
    busy = ("paddock: making the sandbox", "paddock: the sandbox is ready")
    return [line for line in told.splitlines() if not line.startswith(busy)]


# exec


@pytest.mark.docker
def test_a_terminal_shows_the_steps_and_keeps_only_the_output(
    paddock: Paddock, in_docker: tuple[str, ...]
) -> None:
    watcher = Watcher(paddock, *in_docker)
    watcher.end()
    assert watcher.process.returncode == 0, watcher.seen
    assert "making the sandbox" in watcher.seen
    assert r"setup: echo set up > made # \x1b[2J\x1b]0;title\x07" in watcher.seen
    assert "\x1b[2J" not in watcher.seen
    assert watcher.left == OUTPUT.replace("\n", "\r\n")


@pytest.mark.docker
def test_a_pipe_gets_the_output_alone_and_the_terminal_the_steps(
    paddock: Paddock, in_docker: tuple[str, ...]
) -> None:
    watcher = Watcher(paddock, *in_docker, piped=True)
    assert watcher.end() == OUTPUT
    assert "making the sandbox" in watcher.seen
    assert watcher.left == ""


@pytest.mark.docker
def test_without_a_terminal_each_step_is_a_line_on_stderr(
    paddock: Paddock, in_docker: tuple[str, ...]
) -> None:
    done = paddock(*in_docker, env={"FORCE_COLOR": "1"})
    assert (done.returncode, done.stdout) == (0, OUTPUT)
    assert steps(done.stderr) == [
        "paddock: uploading: tree -> work",
        r"paddock: setup: echo set up > made # \x1b[2J\x1b]0;title\x07",
    ]


@pytest.mark.docker
def test_ctrl_c_while_a_container_is_set_up_leaves_the_terminal_clean(
    paddock: Paddock, base_image: str
) -> None:
    args = ("--backend", "docker", "--image", base_image, "--setup", "sleep 300")
    watcher = Watcher(paddock, "exec", *args, "--", "true")
    watcher.wait_for("setup: sleep 300")
    watcher.process.send_signal(signal.SIGINT)
    watcher.end()
    assert watcher.process.returncode == 130
    assert "paddock: SIGINT; cleaning up" in watcher.seen
    assert watcher.left == ""


STUCK = """
import asyncio
from paddock.backends.base import Progress
from paddock.cli.provisioning import provisioning
from paddock.cli.running import run

async def work():
    with provisioning() as tell:
        tell(Progress(step="setup", detail="sleep 300"))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

run(work())
"""


def test_a_second_ctrl_c_in_a_clean_up_leaves_a_cursor_that_can_be_seen(paddock: Paddock) -> None:
    watcher = Watcher(paddock, program=STUCK)
    watcher.wait_for("setup: sleep 300")
    watcher.process.send_signal(signal.SIGINT)
    watcher.wait_for("cleaning up")
    watcher.wait_for(SHOWN)
    watcher.process.send_signal(signal.SIGINT)
    watcher.end()
    assert watcher.process.returncode == -signal.SIGINT
    assert watcher.seen.rfind(SHOWN) > watcher.seen.rfind(HIDDEN)


def test_an_error_is_told_where_the_status_was(paddock: Paddock) -> None:
    watcher = Watcher(paddock, "exec", "--setup", "echo why >&2; exit 7", "--", "true")
    watcher.end()
    assert watcher.process.returncode == 1
    assert watcher.left.startswith("paddock: ")
    assert "exit 7" in watcher.left


# run and demo


@pytest.fixture
def run(paddock: Paddock) -> tuple[str, ...]:
    """A run whose first two calls come before there is a sandbox."""
    calls = [
        {"name": "bash", "arguments": {"command": "echo found"}},
        {"name": "no-such-tool", "arguments": {}},
    ]
    script = [{"tool_calls": calls}, {"text": "The end."}]
    (paddock.cwd / "script.yaml").write_text(json.dumps(script))
    return (
        "run", "Look", "--model", "scripted:script.yaml", "--profile", "developer", "-y",
        "--no-save", "--setup", SETUP,
    )  # fmt: skip


def test_a_run_shows_the_steps_between_lines_that_stay_whole(
    paddock: Paddock, run: tuple[str, ...]
) -> None:
    watcher = Watcher(paddock, *run)
    watcher.end()
    assert watcher.process.returncode == 0, watcher.seen
    assert "setup: echo set up > made" in watcher.seen
    assert "\x1b[2J" not in watcher.seen
    assert "The end." in watcher.left
    for line in watcher.left.splitlines():
        assert "setup" not in line
    for shown in ("→ \x1b[0m\x1b[1mbash echo found\x1b[0m\r\n", "no-such-tool"):
        assert shown in watcher.seen


def test_a_run_whose_output_is_piped_tells_the_steps_on_stderr(
    paddock: Paddock, run: tuple[str, ...]
) -> None:
    done = paddock(*run)
    assert done.returncode == 0, done.stderr
    assert r"paddock: setup: echo set up > made # \x1b[2J\x1b]0;title\x07" in steps(done.stderr)
    assert "set up > made" not in done.stdout


def test_a_trace_comes_without_any_progress(paddock: Paddock, run: tuple[str, ...]) -> None:
    watcher = Watcher(paddock, *run, "--json", piped=True)
    records = [json.loads(line) for line in watcher.end().splitlines()]
    assert records[-1]["type"] == "run_end"
    assert watcher.seen == ""


def test_the_demo_tells_its_steps_on_stderr(paddock: Paddock) -> None:
    done = paddock("demo", "-n", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    uploading, setup = steps(done.stderr)
    assert uploading.startswith("paddock: uploading: ")
    assert setup == "paddock: setup: python3 tools/build_rates.py"
    assert "paddock: " not in done.stdout
