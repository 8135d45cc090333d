"""A fence on kernels whose Landlock knows less: the filter of system calls does its part."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import calls, landlock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Require

ATTEMPTS = """
import os, signal, socket, sys
from paddock.backends.guest.inside import fence, landlock
fence.abi = landlock.abi = lambda: int(sys.argv[1])
above = os.environ["HOME"]
folder = fence.Folder({"TMPDIR": above}, None)
try:
    fence.enter(folder, False)
except fence.FenceUnavailable as error:
    sys.exit(str(error))
for attempt in (
    lambda: open(above + "/new", "x"),
    lambda: open(above + "/kept", "a"),
    lambda: os.truncate(above + "/kept", 0),
    lambda: os.link(above + "/kept", folder.path + "/kept"),
    lambda: os.kill(int(sys.argv[2]), signal.SIGKILL),
    lambda: socket.create_connection(("127.0.0.1", 1)),
    lambda: os.chmod(above + "/kept", 0o777),
):
    try:
        attempt()
    except ConnectionRefusedError:
        print("connected")
    except OSError:
        print("refused")
    else:
        print("done")
open(folder.path + "/mine", "x").close()
"""


def _attempt(abi: int, above: Path) -> subprocess.CompletedProcess[str]:
    (above / "kept").write_text("data")
    with subprocess.Popen(["sleep", "60"]) as neighbour:
        try:
            return subprocess.run(
                [sys.executable, "-c", ATTEMPTS, str(abi), str(neighbour.pid)],
                env={"HOME": str(above), "PYTHONPATH": ":".join(sys.path)},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            assert neighbour.poll() is None
            neighbour.kill()


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, 7])
def test_what_an_older_landlock_does_not_know_is_refused_as_well(
    abi: int, tmp_path: Path, require: Require
) -> None:
    require("landlock", landlock.abi() >= abi, f"this kernel has no Landlock ABI {abi}")
    ran = _attempt(abi, tmp_path)
    assert ran.stdout.split() == ["refused"] * 7
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "kept").read_text() == "data"


def test_without_landlock_there_is_no_fence(tmp_path: Path) -> None:
    ran = _attempt(0, tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "Landlock is not available" in ran.stderr


@pytest.mark.parametrize("machine", sorted(calls.ARCHITECTURES))
def test_the_table_of_each_architecture_makes_a_program(machine: str) -> None:
    for network in (True, False):
        program = calls.filter_program(machine, network=network, signals=False, truncation=False)
        assert len(program) % calls.INSTRUCTION.size == 0
        assert len(program) // calls.INSTRUCTION.size < 4096  # the kernel's limit


def test_an_unknown_architecture_has_no_program() -> None:
    with pytest.raises(KeyError, match="sparc64"):
        calls.filter_program("sparc64", network=False, signals=True, truncation=True)
