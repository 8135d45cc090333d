"""Where the control groups of sandboxes go, on machines of every kind."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from paddock.backends.isolation import cgroups, levels
from paddock.sandbox import Resources

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MEMORY = 96 * 1024**2
ALL = Resources(memory=MEMORY, cpu=1.0, pids=64)


def _machine(folder: Path, mounts: Iterable[str], membership: str) -> Path:
    """What another machine's /proc/self tells of control groups."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    (proc / "cgroup").write_text(membership)
    return proc


def _unified(folder: Path, files: dict[str, str]) -> Path:
    """A hierarchy of version 2 below `folder`/v2, with this process in /slice/own."""
    for name, text in files.items():
        file = folder / "v2" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    mount = f"30 25 0:26 / {folder}/v2 rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
    return _machine(folder, [mount], "0::/slice/own\n")


PREPARED = {
    "slice/cgroup.subtree_control": "cpu memory pids\n",
    "slice/cgroup.procs": "",
    "slice/own/cgroup.type": "domain\n",
    "slice/own/memory.max": "max\n",
    "slice/own/cpu.max": "max 100000\n",
}


def test_groups_of_version_1_go_below_the_process_own_wherever_it_is_mounted(
    tmp_path: Path,
) -> None:
    top = tmp_path / "with space"
    own = top / "own"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    escaped = str(top).replace(" ", "\\040")
    mounts = [
        "29 25 0:24 / /elsewhere rw - cgroup cgroup rw,memory",
        f"30 25 0:25 /other {escaped} rw - cgroup cgroup rw,cpu,cpuacct",
        f"31 25 0:25 /docker/1 {escaped} rw shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct",
        "32 25 0:26 / /unified rw - cgroup2 cgroup2 rw",
    ]
    proc = _machine(tmp_path, mounts, "4:cpu,cpuacct:/docker/1/own\n1:name=systemd:/\n0::/\n")
    assert cgroups.place("cpu", proc) == cgroups.Place(controller="cpu", version=1, path=own)


def test_groups_of_version_2_go_beside_the_process_own(tmp_path: Path) -> None:
    proc = _unified(tmp_path, PREPARED)
    found = [cgroups.place(controller, proc) for controller in levels.LIMITS_BY]
    there = [place for place in found if isinstance(place, cgroups.Place)]
    assert [place.path for place in there] == 3 * [tmp_path / "v2/slice"]
    (group,) = cgroups.plan(there, "1", ALL)
    assert group.path == tmp_path / "v2/slice/paddock-1"
    assert group.settings == (
        ("memory.max", str(MEMORY)),
        ("memory.swap.max", "0"),
        ("cpu.max", "100000 100000"),
        ("pids.max", "64"),
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"slice/own/memory.max": "1073741824\n"}, "a limit .memory.max. that .* would escape"),
        ({"slice/own/cpu.max": "50000 100000\n"}, "a limit .cpu.max. that .* would escape"),
        ({"slice/cgroup.subtree_control": "cpu pids\n"}, "has only: cpu pids"),
    ],
)
def test_version_2_that_is_not_prepared_says_what_is_in_the_way(
    change: dict[str, str], reason: str, tmp_path: Path
) -> None:
    found = cgroups.place("memory", _unified(tmp_path, {**PREPARED, **change}))
    assert isinstance(found, str)
    assert re.search(reason, found)


def test_in_version_2_a_process_at_the_top_of_what_is_mounted_can_make_no_groups(
    tmp_path: Path,
) -> None:
    own = tmp_path / "slice"
    own.mkdir()
    (own / "cgroup.type").write_text("domain\n")
    mount = f"30 25 0:26 /slice {own} rw - cgroup2 cgroup2 rw"
    found = cgroups.place("cpu", _machine(tmp_path, [mount], "0::/slice\n"))
    assert isinstance(found, str)
    assert "which can so have no groups with limits" in found


@pytest.mark.parametrize("member", ["/../elsewhere", "/not/visible"])
def test_a_group_that_this_process_cannot_see_is_not_guessed(member: str, tmp_path: Path) -> None:
    mount = f"30 25 0:26 / {tmp_path}/v2 rw - cgroup2 cgroup2 rw"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "v2").mkdir()
    found = cgroups.place("cpu", _machine(tmp_path, [mount], f"0::{member}\n"))
    assert "no control groups" in str(found)


def test_a_machine_without_control_groups_says_so(tmp_path: Path) -> None:
    assert "no control groups" in str(cgroups.place("pids", _machine(tmp_path, [], "0::/\n")))
    assert "cannot be read" in str(cgroups.place("pids", tmp_path / "nothing"))
