"""How a command is stopped, with real signals to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = """
import asyncio, sys, time
import typer
from paddock.cli.running import run

async def work():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaning", flush=True)
        {clean_up}
        print("clean", flush=True)

try:
    run(work())
except typer.Exit as stop:
    sys.exit(stop.exit_code)
"""


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    program = PROGRAM.format(clean_up=request.param)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("started", ["await asyncio.sleep(0)"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_and_lets_clean_up_finish(
    started: subprocess.Popen[str], number: signal.Signals
) -> None:
    started.send_signal(number)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 128 + number
    assert out == "cleaning\nclean\n"
    assert number.name in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "started", ["await asyncio.Event().wait()", "time.sleep(60)"], indirect=True
)
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_even_while_it_is_stuck(
    started: subprocess.Popen[str], second: signal.Signals
) -> None:
    assert started.stdout is not None
    started.send_signal(signal.SIGINT)
    assert started.stdout.readline() == "cleaning\n"
    started.send_signal(second)
    assert started.wait(timeout=60) == -second
