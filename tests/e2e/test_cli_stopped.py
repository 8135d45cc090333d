"""Commands that are stopped by real signals: all that they began goes, and a run can go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.processes import LEAVING, processes_with, wait_until_gone, wait_until_there

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Paddock


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_group", [True, False], ids=["like a terminal", "like kill"])
def test_a_signal_takes_everything_down(
    paddock: Paddock, number: signal.Signals, whole_group: bool
) -> None:
    mark = f"3600.{os.getpid()}{number.value}{whole_group:d}"
    command = f"setsid sleep {mark} & echo up; wait"
    with paddock.start("exec", "--", "sh", "-c", command) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        wait_until_there(f"sleep\0{mark}")
        started = time.monotonic()
        (os.killpg if whole_group else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=LEAVING * 2)
    assert process.returncode == 128 + number
    assert time.monotonic() - started < LEAVING
    assert "Traceback" not in err
    assert not processes_with(f"sleep\0{mark}")


def test_two_signals_end_it_at_once_and_the_sandbox_follows(paddock: Paddock) -> None:
    mark = f"3600.{os.getpid()}9"
    command = f"trap '' TERM; setsid sleep {mark} & echo up; wait; sleep {mark}"
    with paddock.start("exec", "--", "sh", "-c", command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert "SIGINT" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(LEAVING) in (-signal.SIGINT, 128 + signal.SIGINT)
    wait_until_gone(f"sleep\0{mark}")


def test_even_a_killed_host_leaves_nothing_behind(paddock: Paddock) -> None:
    mark = f"3600.{os.getpid()}8"
    with paddock.start("exec", "--", "sh", "-c", f"setsid sleep {mark} & echo up; wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
    wait_until_gone(f"sleep\0{mark}")


def test_an_engine_that_hangs_does_not_hold_up_ctrl_c(paddock: Paddock, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(os.fspath(tmp_path / "engine.sock"))
        silent.listen()
        there = {"DOCKER_HOST": f"unix://{tmp_path}/engine.sock"}
        with paddock.start("exec", "--backend", "docker", "--", "true", env=there) as process:
            silent.settimeout(LEAVING * 2)
            call, _ = silent.accept()
            with call:
                assert call.recv(4) == b"GET "
                started = time.monotonic()
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=LEAVING * 2)
        assert process.returncode == 128 + signal.SIGINT
        assert time.monotonic() - started < LEAVING


def test_a_cancelled_run_can_be_resumed(paddock: Paddock) -> None:
    mark = f"3600.{os.getpid()}7"
    (paddock.cwd / "slow.yaml").write_text(
        f"- tool_calls: [{{name: bash, arguments: {{command: echo up; sleep {mark}}}}}]\n"
        "- text: Going on.\n"
    )
    args = (
        "run",
        "Wait",
        "--model",
        "scripted:slow.yaml",
        "--profile",
        "developer",
        "-y",
        "--json",
    )
    with paddock.start(*args) as process:
        assert process.stdout is not None
        while '"tool_start"' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LEAVING * 2)
    assert process.returncode == 130
    assert not processes_with(f"sleep\0{mark}")
    (listed,) = json.loads(paddock("sessions", "list", "--json").stdout)
    assert listed["status"] == "cancelled"
    resumed = paddock("sessions", "resume", "latest", "Go on", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on." in resumed.stdout
