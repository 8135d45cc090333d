"""What README and docs show is true: their programs run, as they stand there."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.backends.local import probe
from tests.pages import Block, as_parameters, blocks

if TYPE_CHECKING:
    from tests.conftest import Require
    from tests.daytona_account import DaytonaAccount
    from tests.e2e.conftest import Paddock


@pytest.mark.parametrize("block", as_parameters(blocks("python")))
def test_a_program_in_the_docs_runs(
    block: Block, paddock: Paddock, require: Require, request: pytest.FixtureRequest
) -> None:
    """A block is a whole program.

    It runs in an empty directory and home, with warnings as errors, and without a key but
    for a Daytona that it does not serve itself.
    """
    program, environment = block.text, paddock.environment
    if re.search(r"await Engine|    backend = Docker|async with Docker", program):
        request.getfixturevalue("base_image")
    if "SshBackend" in program:
        environment |= {"PADDOCK_SSH_CONFIG": str(request.getfixturevalue("ssh_config"))}
    if "PodmanBackend" in program:
        environment |= request.getfixturevalue("podman")
    if "LocalBackend(network=Allow" in program:
        found = asyncio.run(probe())
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    if "DaytonaBackend" in program and "DaytonaServer" not in program:
        account: DaytonaAccount = request.getfixturevalue("daytona_account")
        environment |= account.variables
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=paddock.cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
