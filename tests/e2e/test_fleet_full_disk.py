"""A batch on a disk that is really full, at each place where it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Require

FREE = [0, 20_000, 60_000, 140_000, 260_000, 420_000, 700_000, 1_000_000]
"""Bytes: for nothing, the ledger alone, some files or artifacts, the results, and a report less."""

OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private"]
PATIENCE = 100
"""Seconds for some twenty batches of six tasks, on a machine ten times as busy."""

KEYS = [f"t{number}" for number in range(6)]


def test_nothing_that_was_accepted_is_lost_and_the_batch_is_resumed(
    require: Require, tmp_path: Path
) -> None:
    probe = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    may_mount = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    require("mount", may_mount, "the tests have to run as root, to mount a small disk")
    script = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        [*OWN_MOUNTS, sys.executable, script, tmp_path, *map(str, FREE)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *batches, cli = map(json.loads, done.stdout.splitlines())
    assert [each["free"] for each in batches] == FREE
    for each in batches:
        *early, last = each["ends"]
        assert (last, each["found"], each["lines"]) == ("done", KEYS, KEYS), each
        assert all("No space left" in end or "disk is full" in end for end in early[:1]), each
    assert batches[0]["ends"][0].startswith("not begun")
    assert all("gave up" in each["ends"][0] for each in batches[1:]), batches
    assert cli["codes"] == [75, 0], cli
    assert "make space on that disk first" in cli["said"]
    assert "continue with: paddock map --resume run" in cli["said"]
    assert "Traceback" not in cli["said"]
