"""A host that ssh reaches passes the kit, with a fence there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.backends.ssh import SshBackend
from paddock.backends.ssh.keeper import LOCK, PLACE
from paddock.testing import BackendConformance

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


@pytest.fixture(scope="module")
def backend(ssh_config: Path) -> SshBackend:
    return SshBackend(host="there", config=str(ssh_config), isolation="bubblewrap")


class TestSsh(BackendConformance):
    async def kill(self, sandbox: Sandbox) -> None:
        os.kill(await asyncio.to_thread(guest_of, sandbox.id), signal.SIGKILL)


def guest_of(name: str) -> int:
    """Return the child of the sandbox's keeper, which is on this machine, too."""
    keeper = json.loads(Path(f"{PLACE}{name}{LOCK}").read_text())["pid"]
    (guest,) = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return int(guest)
