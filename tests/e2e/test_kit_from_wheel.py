"""Our own backends run the kit as a third party does: in a project that has the wheel only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.daytona_account import DaytonaAccount

ROOT = Path(__file__).parents[2]
WHOLE = os.environ.get("PADDOCK_KIT_WHOLE") == "1"
"""Whether to run all of the kit on each backend, as `make stress` does."""
DEADLINE = 1800 if WHOLE else 600
"""Seconds for a program, on a machine that is ten times as busy."""
QUICK = "not fork_bomb and not any_length and not many_sandboxes and not cancelled_at_any"
"""All but those that take many seconds; they have run from the checkout."""
SOME = (
    "exit_code or every_byte or cwd_starts or timeout_ends or provisioning or closing_is"
    " or is_listed or tree_goes_up or web_server_inside"
)
"""A test or two of each topic, where a sandbox or a call takes its time."""

INI = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""
PROJECT = """
import json
import os
from pathlib import Path

import pytest

import paddock
from paddock import (
    DaytonaBackend, DockerBackend, LocalBackend, PodmanBackend, SshBackend
)
from paddock.testing import BackendConformance

RECIPES = {
    "daytona": lambda: DaytonaBackend(
        snapshot=os.environ.get("SNAPSHOT") or None, env_vars=json.loads(os.environ["ENV_VARS"])
    ),
    "docker": lambda: DockerBackend(network="none"),
    "local": lambda: LocalBackend(),
    "podman": lambda: PodmanBackend(network="none"),
    "ssh": lambda: SshBackend(isolation="bubblewrap"),
}


@pytest.fixture(scope="module")
def backend():
    assert Path(paddock.__file__).is_relative_to(os.environ["INSTALLED"])
    return RECIPES[os.environ["BACKEND"]]()


DEVIATIONS = {"test_when_the_sandbox_is_*": "the classes of tests/contract have kill()"}
ON_DAYTONA = {"test_who_attaches_to_*": "a sandbox that is attached has a guest of its own"}


class TestOurs(BackendConformance):
    deviations = DEVIATIONS | (ON_DAYTONA if os.environ["BACKEND"] == "daytona" else {})

    async def headers(self, sandbox, port):
        preview = getattr(sandbox, "preview", None)
        return (await preview(port)).headers if preview is not None else {}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the wheel, as pip installs it."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    _run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    return target


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def _kit(installed: Path, folder: Path, backend: str, tests: str, **variables: str) -> None:
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_ours.py").write_text(PROJECT)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider"]
    command += [] if WHOLE else ["-k", tests]
    told = {
        **os.environ,
        **variables,
        "BACKEND": backend,
        "INSTALLED": str(installed),
        "PYTHONPATH": str(installed),
    }
    done = subprocess.run(
        command, cwd=folder, env=told, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert "conformance of backends" in done.stdout
    assert " failed" not in done.stdout


@pytest.mark.timeout(2 * DEADLINE)
class TestFromTheWheel:
    def test_local(self, installed: Path, tmp_path: Path) -> None:
        _kit(installed, tmp_path, "local", QUICK)

    @pytest.mark.usefixtures("base_image")
    def test_docker(self, installed: Path, tmp_path: Path) -> None:
        _kit(installed, tmp_path, "docker", SOME)

    def test_daytona(
        self, installed: Path, tmp_path: Path, daytona_account: DaytonaAccount
    ) -> None:
        account = daytona_account
        variables = {
            **account.variables,
            "SNAPSHOT": account.snapshot or "",
            "ENV_VARS": json.dumps(dict(account.recipe.env_vars)),
        }
        _kit(installed, tmp_path, "daytona", SOME, **variables)

    def test_podman(self, installed: Path, tmp_path: Path, podman: dict[str, str]) -> None:
        _kit(installed, tmp_path, "podman", SOME, **podman)

    def test_ssh(self, installed: Path, tmp_path: Path, ssh_config: Path) -> None:
        variables = {"PADDOCK_SSH_HOST": "there", "PADDOCK_SSH_CONFIG": str(ssh_config)}
        _kit(installed, tmp_path, "ssh", SOME, **variables)
