"""Sandboxes for synchronous code: one event loop behind them, from wherever they are called."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from paddock import LocalBackend
from paddock.sync import Running, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rows("U-9")

DEADLINE = 60.0
"""Seconds for a process to say one line, on a machine that is very busy."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = str(tmp_path_factory.mktemp("work"))
    with Sandbox.create(LocalBackend(isolation="none", working_dir=folder)) as made:
        yield made


def test_output_that_is_not_kept_is_counted(sandbox: Sandbox) -> None:
    done = sandbox.run("head -c 3000000 /dev/zero | tr '\\0' x")
    assert not isinstance(done, Running)
    assert done.out.total == 3_000_000
    assert "bytes left out" in done.stdout


def test_a_server_is_recognised_by_words_in_two_pieces(sandbox: Sandbox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    command = f"printf 'x listen'; cat {tmp_path}/go; echo 'ing on 1'; exec sleep 1000"
    opener = threading.Thread(target=(tmp_path / "go").write_text, args=("",))
    opener.start()
    found = sandbox.run(command, wait=60)
    opener.join()
    assert isinstance(found, Running)
    assert "listening on 1" in found.said
    found.stop()


def test_files_are_read_and_written_by_pieces(sandbox: Sandbox) -> None:
    with sandbox.fs.open_write("a.txt") as file:
        file.write(b"one ")
        file.write(b"two")
    with sandbox.fs.open_read("a.txt") as file:
        assert file.read(3) == b"one"
        assert b"".join(file) == b" two"
    assert sandbox.fs.read_text("a.txt") == "one two"
    with pytest.raises(FileNotFoundError), sandbox.fs.open_read("none"):
        pass


async def test_it_works_where_an_event_loop_runs_and_in_many_threads(sandbox: Sandbox) -> None:
    assert sandbox.exec("echo here").stdout == "here\n"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: sandbox.exec(f"echo {n}").stdout, range(8)))
    assert found == [f"{number}\n" for number in range(8)]


def test_a_call_from_its_own_event_loop_is_refused(sandbox: Sandbox) -> None:
    """It would wait for itself."""
    refused: list[str] = []

    async def on_output(_: str, __: bytes) -> None:
        try:
            sandbox.exec("true")
        except RuntimeError as error:
            refused.append(str(error))

    def plain(_: str, __: bytes) -> None:
        refused.append(sandbox.exec("echo inner").stdout)

    options: dict[str, Any] = {"timeout": 60}
    sandbox.exec("echo x", on_output=on_output, **options)
    sandbox.exec("echo x", on_output=plain, **options)
    assert "its own event loop" in refused[0]
    assert refused[1:] == ["inner\n"]


@pytest.fixture
def _ctrl_c_raises() -> Iterator[None]:
    """As in a program, whatever another test of this process has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_raises")
def test_ctrl_c_ends_the_command_before_it_is_raised(sandbox: Sandbox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")

    def interrupt() -> None:
        (tmp_path / "started").read_text()
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    command = f"echo $$ > {tmp_path}/pid; : > {tmp_path}/started; exec sleep 1000"
    with pytest.raises(KeyboardInterrupt):
        sandbox.exec(command)
    waiting.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_nothing_is_left_where_a_program_ends_without_closing(tmp_path: Path) -> None:
    program = """
from paddock import LocalBackend
from paddock.sync import Sandbox
sandbox = Sandbox.create(LocalBackend(isolation="none", working_dir="."))
sandbox.run("echo $$ > pid; mkfifo end; exec 3<>end; echo listening on 1; exec sleep 1000")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=100, check=True
    )
    assert b"Traceback" not in done.stderr
    pid = int((tmp_path / "pid").read_text())
    asyncio.run(_until_gone(pid))


async def _until_gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC110, ASYNC240 - it is not our child
            await asyncio.sleep(0.02)


def test_a_sandbox_of_the_process_that_forked_is_refused(sandbox: Sandbox) -> None:
    """Its connection belongs to a loop that the new process does not have."""
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns of threads here
        child = os.fork()
    if not child:
        try:
            sandbox.exec("true")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writing)
    try:
        with open(reading, "rb") as said:
            assert select.select([said], [], [], DEADLINE)[0], "it hangs"
            assert said.read().decode().startswith("SandboxError: sandbox ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert sandbox.exec("echo here").stdout == "here\n"
