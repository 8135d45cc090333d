"""What a machine cannot give is refused with the reason, and nothing weaker is given by silence.

Row C32 of the reliability document, for the isolation and the limits of local sandboxes.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, IsolationUnavailable, LocalBackend, Unsupported
from paddock.backends import local
from paddock.backends.guest.inside import landlock
from paddock.backends.isolation import bubblewrap
from paddock.backends.isolation.probe import Prober
from paddock.backends.local import probing
from paddock.sandbox import Resources
from paddock.testing.conformance.watch import make_passable

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.rows("C32")
async def test_isolation_that_cannot_be_had_fails_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "program", lambda: None)
    with pytest.raises(IsolationUnavailable, match=r"not installed.*install"):
        await LocalBackend(isolation="bubblewrap").create()
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(IsolationUnavailable, match=r"isolation='auto'.*PADDOCK_ISOLATION=none"):
        await LocalBackend(isolation="auto").create()
    assert os.listdir(tmp_path) == []


@pytest.mark.rows("C32")
async def test_a_bubblewrap_that_does_not_work_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = _script(tmp_path / "bwrap", "echo 'setting up uid map: Permission denied' >&2; exit 1")
    monkeypatch.setattr(probing, "prober", Prober(probing.try_level))
    monkeypatch.setattr(bubblewrap, "program", lambda: str(broken))
    with pytest.raises(IsolationUnavailable, match="does not work here"):
        await LocalBackend(isolation="bubblewrap").create()


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "recipe",
    [
        LocalBackend(isolation="none", network="none"),
        LocalBackend(isolation="none", resources=Resources(pids=10)),
        LocalBackend(resources=Resources(disk=10**9)),
    ],
    ids=["network", "pids", "disk"],
)
async def test_a_policy_that_cannot_be_enforced_is_refused(recipe: LocalBackend) -> None:
    with pytest.raises(Unsupported):
        await recipe.create()


WITHOUT = """
import asyncio, json, os, sys
from paddock import IsolationUnavailable, LocalBackend
from paddock.sandbox import Capability
async def main():
    try:
        await LocalBackend(isolation="bubblewrap").create()
    except IsolationUnavailable as error:
        print(error)
    try:
        async with LocalBackend(isolation="auto").sandbox() as sandbox:
            print(*sorted(each for each in sandbox.capabilities if "isolation" in each))
    except IsolationUnavailable:
        print("refused")
    print(os.listdir(os.path.join(os.environ["TMPDIR"], f"paddock-{os.getuid()}")))
asyncio.run(main())
"""
NO_USER_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"',
    "sh",
)


@pytest.mark.rows("C32")
@pytest.mark.parametrize("lacking", ["program", "user namespaces"])
async def test_a_machine_without_bubblewrap_gives_landlock_or_nothing(
    lacking: str, require: Callable[[str, object, str], None], tmp_path: Path
) -> None:
    make_passable(tmp_path)
    env, before = {**os.environ, "TMPDIR": str(tmp_path)}, []
    if lacking == "program":
        env["PATH"] = str(_path_without_bubblewrap(tmp_path / "bin"))
    else:
        require("bubblewrap", shutil.which("bwrap"), "it is not installed")
        before = [*NO_USER_NAMESPACES]
        require("userns", await _succeeds(*before, "true"), "there are no user namespaces")
    host = await asyncio.create_subprocess_exec(
        *before, sys.executable, "-c", WITHOUT, stdout=subprocess.PIPE, env=env
    )
    out, _ = await host.communicate()
    told, isolated, left = out.decode().splitlines()
    assert re.search("not installed|does not work here|user id", told)
    # Who is root of a user namespace without spare ids has no other user to become.
    confined = landlock.abi() and lacking == "program"
    assert isolated == ("file_isolation" if confined else "refused")
    assert left == "[]"


def _path_without_bubblewrap(folder: Path) -> Path:
    folder.mkdir()
    for program in ("rm", "chmod", "sh"):
        (folder / program).symlink_to(str(shutil.which(program)))
    return folder


async def _succeeds(*command: str) -> bool:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait() == 0


MEMORY = 96 * 1024**2

ASK = """
import asyncio, os
from paddock import LocalBackend, Unsupported
from paddock.backends import lease, local
from paddock.sandbox import Resources
async def main():
    found = await local.probe()
    print(found.level, *sorted(found.limits))
    for resources in (Resources(memory=2**30), Resources(cpu=1.0)):
        before = os.listdir(lease.base_directory())
        try:
            await LocalBackend(resources=resources).create()
        except Unsupported as error:
            print(error)
        assert os.listdir(lease.base_directory()) == before
    async with LocalBackend(resources=Resources(pids=50)).sandbox() as sandbox:
        print(*sorted(sandbox.capabilities & found.limits))
asyncio.run(main())
"""


async def test_limits_that_cannot_be_enforced_are_refused_with_the_reason(
    require: Callable[[str, object, str], None], tmp_path: Path
) -> None:
    found = await local.probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    command = [sys.executable, "-c", ASK]
    if found.places:
        require("root", os.getuid() == 0, "control groups cannot be taken away from this process")
        mounts = [line.split()[4] for line in _mountinfo() if " - cgroup" in line]
        remounts = "".join(f"mount -o remount,bind,ro {top} && " for top in mounts)
        command = ["unshare", "--mount", "sh", "-c", f'{remounts} exec "$@"', "sh", *command]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    assert lines[0] == "bubblewrap limit_pids"
    for line, what in zip(lines[1:3], ("memory", "CPU"), strict=True):
        assert f"does not support a limit on {what}; " in line
        assert "may not make control groups in" in line
    assert lines[3] == "limit_pids"


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


@pytest.mark.parametrize("resources", [Resources(memory=MEMORY), Resources(cpu=1.0)])
async def test_without_isolation_there_are_no_limits(resources: Resources) -> None:
    with pytest.raises(Unsupported, match="isolation='bubblewrap'"):
        await LocalBackend(isolation="none", resources=resources).create()


def test_a_limit_that_leaves_nothing_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(ConfigError, match=r"resources: cpu=0.001 is less than 0.01"):
        LocalBackend(resources=Resources(cpu=0.001))
