"""A process that is ended as soon as it can be seen has not missed it."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.guest.conftest import FOLDER

DEADLINE = 60
PROGRAM = """
import os, select, signal, sys
sys.path.insert(0, sys.argv[1])
from inside.forks import fork, take_signals

signal.signal(signal.SIGTERM, lambda number, stack: None)  # the child inherits it
for _ in range(100):
    child = fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        take_signals()
        while True:
            signal.pause()
    os.kill(child, signal.SIGTERM)
    watched = os.pidfd_open(child)
    if not select.select([watched], [], [], 5)[0]:
        os.kill(child, signal.SIGKILL)
    os.close(watched)
    ended = os.WTERMSIG(os.waitpid(child, 0)[1])
    if ended != signal.SIGTERM:
        sys.exit(f"it took signal {ended} to end a child")
"""


def test_a_signal_that_comes_right_after_the_fork_is_not_lost() -> None:
    command = [sys.executable, "-c", PROGRAM, str(FOLDER)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
