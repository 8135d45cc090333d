"""Without a fence, an SSH host keeps the contract about processes, lifetimes and policies."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from paddock.backends.ssh import SshBackend
from paddock.testing.conformance import (
    CancellationTests,
    LifecycleTests,
    ListingTests,
    PolicyTests,
    TreeTests,
)
from tests.contract.test_ssh import guest_of

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.sandbox import Sandbox


@pytest.fixture(scope="module")
def backend(ssh_config: Path) -> SshBackend:
    return SshBackend(host="there", config=str(ssh_config), isolation="none")


class TestSshUnfenced(LifecycleTests, ListingTests, TreeTests, CancellationTests, PolicyTests):
    async def kill(self, sandbox: Sandbox) -> None:
        os.kill(await asyncio.to_thread(guest_of, sandbox.id), signal.SIGKILL)
