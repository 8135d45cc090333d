"""A Podman for the tests, with a storage of its own that has ``paddock:base``."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.meters import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["podman_storage"]

IMAGE = "paddock:base"
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{folder}/run"
"""
ENGINE = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "{runtime}"
"""
"""Without systemd; of the two runtimes, crun knows no machine that has control groups of both
versions. A root who may not raise limits gets those that it has."""


FOLDERS = "/tmp"
"""Where the path of a `runroot` has more than 50 characters, the end of a container takes 20 s."""


@contextlib.contextmanager
def podman_storage(meter: Path) -> Iterator[dict[str, str]]:
    """Have Podman use a storage of its own, which processes that share the tests share; yield the
    variables that are set for it."""
    with locked(meter) as told:
        if not told.get("users"):
            told["place"] = tempfile.mkdtemp(prefix="paddock-", dir=FOLDERS)
        told["users"] = told.get("users", 0) + 1
        place = Path(told["place"])
        environment = _environment(place)
        if told["users"] == 1:
            _make(place, environment)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield environment
    finally:
        with locked(meter) as told:
            told["users"] -= 1
            if not told["users"]:
                _remove(place, environment)


def _environment(place: Path) -> dict[str, str]:
    return {
        "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
        "CONTAINERS_CONF": str(place / "containers.conf"),
    }


def _make(place: Path, environment: dict[str, str]) -> None:
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
    runtime = "runc" if shutil.which("runc") else "crun"
    (place / "storage.conf").write_text(STORAGE.format(folder=place))
    (place / "containers.conf").write_text(ENGINE.format(files=files, runtime=runtime))
    env = os.environ | environment
    with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saving:
        subprocess.run(["podman", "load", "--quiet"], stdin=saving.stdout, check=True, env=env)
    assert saving.returncode == 0


def _remove(place: Path, environment: dict[str, str]) -> None:
    env = os.environ | environment
    listing = ["podman", "ps", "--all", "--quiet"]
    left = subprocess.run(listing, check=True, capture_output=True, env=env).stdout
    mount = str(place / "root" / "overlay")
    subprocess.run(["umount", mount], check=False, capture_output=True)
    shutil.rmtree(place)
    assert not left, f"containers left behind: {left!r}"
