"""What root's sandboxes withstand, those of an ordinary user do: the same tests, run as one.

Root starts them here with a Python that everybody may start; an ordinary user ran them already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance.watch import make_passable

if TYPE_CHECKING:
    from tests.conftest import Require

NOBODY = 65534
DEADLINE = 280
"""Seconds for all of them: half a minute on a machine with nothing else to do."""
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = ["test_fence.py", "test_forging.py", "test_guest_stderr.py", "test_shortages.py"]
"""Those in which the user of this machine makes a difference."""
PACKAGES = sysconfig.get_path("purelib")
READY = """
import os, sys, pytest, ssl
assert os.access(sys.argv[1], os.R_OK)
assert sys.version_info[:2] == tuple(map(int, sys.argv[2].split(".")))
"""


def _as_nobody(python: str, *args: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *args],
        check=False,
        cwd="/",
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{PACKAGES}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(home),
            "TMPDIR": str(home),
            "PADDOCK_REQUIRE": os.environ.get("PADDOCK_REQUIRE", ""),
        },
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, require: Require) -> str:
    """A Python like the one of these tests which everybody may start, and they can be read with."""
    require("root", os.geteuid() == 0, "an ordinary user has run these tests already")
    version = sysconfig.get_python_version()
    home = tmp_path_factory.mktemp("nobody")
    make_passable(home)
    for program in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            ended = _as_nobody(program, "-c", READY, str(HERE / FILES[0]), version, home=home)
        except OSError:
            continue
        if ended.returncode == 0:
            return program
    require("a Python for everybody", False, f"nobody but root can start a {version} on {ROOT}")
    raise AssertionError("unreachable")


@pytest.mark.timeout(DEADLINE + 20)
def test_the_same_holds_for_an_ordinary_user(python: str, tmp_path: Path) -> None:
    make_passable(tmp_path)
    os.chown(tmp_path, NOBODY, NOBODY)
    where = ["--rootdir", str(ROOT), "-c", f"{ROOT}/pyproject.toml"]
    chosen = ["-k", "not docker and not daytona", *(str(HERE / name) for name in FILES)]
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *where, *chosen]
    done = _as_nobody(python, *options, home=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
