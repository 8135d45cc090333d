"""Batches on a Ray cluster of two nodes: a driver that is killed, and a node that is."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.e2e.processes import processes_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require

HERE = Path(__file__).parent
PATIENCE = 100
"""Seconds for a cluster to begin, or for a batch of six tasks, on a machine ten times as busy."""


ENVIRONMENT = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that Ray uses 127.0.0.1 and nothing else
}


class Cluster(NamedTuple):
    address: str
    orders: IO[str]
    answers: IO[str]

    def end_second_node(self) -> None:
        self.orders.write("end\n")
        self.orders.flush()
        assert self.answers.readline() == "ended\n"


@pytest.fixture(scope="module")
def cluster(require: Require) -> Iterator[Cluster]:
    found = subprocess.run([sys.executable, "-c", "import ray"], capture_output=True, check=False)
    require("ray", found.returncode == 0, "pip install 'paddock[ray]'")
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # paths of sockets have 107 bytes at most
    process = subprocess.Popen(
        [sys.executable, HERE / "ray_cluster.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**ENVIRONMENT, "TMPDIR": folder},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process:
            yield Cluster(process.stdout.readline().strip(), process.stdin, process.stdout)
            process.stdin.close()
            process.wait(PATIENCE)
    finally:
        for left in processes_with(folder):  # of a cluster that did not begin
            os.kill(left, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


class Batch:
    """The batch in a folder, run by a process of its own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, HERE / "ray_batch.py", cluster.address, folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def ran(self) -> list[tuple[str, int]]:
        """The tasks that began, and which process drove their node."""
        path = self.folder / "ran"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def wait_for_runs(self, count: int) -> None:
        wait_until(
            lambda: len(self.ran()) >= count or self._process.poll() is not None,
            within=PATIENCE,
            otherwise=f"{self.ran()} began",
        )
        assert len(self.ran()) >= count, self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self.kill()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def end(self) -> list[str]:
        """Let the tasks end; return what the batch says of each."""
        (self.folder / "go").touch()
        _, errors = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, errors
        return sorted((self.folder / "said").read_text().splitlines())


def accepted(folder: Path) -> dict[str, int]:
    db = sqlite3.connect(folder / "run/ledger.db")
    query = "SELECT key, count(*) FROM attempts WHERE state = 'accepted' GROUP BY key"
    found = dict(db.execute(query).fetchall())
    db.close()
    return found


def require_whole(folder: Path) -> None:
    """Each task has one result and its artifact."""
    assert accepted(folder) == {f"t{number}": 1 for number in range(6)}
    for number in range(6):
        (answer,) = folder.glob(f"run/tasks/t{number}/attempt-*/artifacts/answer")
        assert answer.stat().st_size == 3 * 2**20 + number


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_driver_that_was_killed_is_resumed_and_what_ran_for_it_is_gone(
    cluster: Cluster, tmp_path: Path
) -> None:
    with Batch(cluster, tmp_path) as first:
        first.wait_for_runs(6)
        wait_until(
            lambda: len(accepted(tmp_path)) == 2, within=PATIENCE, otherwise="nothing is done"
        )
        agents = {agent for _, agent in first.ran()}
        (tmp_path / "said").unlink(missing_ok=True)
        assert len(agents) == 2, "both nodes work"
    wait_until(
        lambda: not any(map(is_alive, agents)), within=PATIENCE, otherwise="its agents are left"
    )
    with Batch(cluster, tmp_path) as second:
        assert second.end() == [f"t{n} None {n} {n < 2}" for n in range(6)]
        assert Counter(key for key, _ in second.ran()) == {f"t{n}": 1 + (n > 1) for n in range(6)}
    require_whole(tmp_path)


def test_the_tasks_of_a_node_that_is_lost_begin_again_elsewhere(
    cluster: Cluster, tmp_path: Path
) -> None:
    with Batch(cluster, tmp_path) as batch:
        batch.wait_for_runs(6)
        cluster.end_second_node()
        batch.wait_for_runs(8)
        begun = batch.ran()
        (survivor,) = {agent for _, agent in begun[6:]}
        lost = {key for key, agent in begun[:6] if agent != survivor} - {"t0", "t1"}
        assert {key for key, _ in begun[6:]} == lost
        assert batch.end() == [f"t{n} None {n} False" for n in range(6)]
    require_whole(tmp_path)
    assert not is_alive(survivor)
