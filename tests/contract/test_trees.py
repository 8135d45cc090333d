"""Tree tests of the kit on our own backends, and what only a guest promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance import TreeTests
from paddock.testing.conformance.watch import MARK, alive
from tests.contract.ours import Ours

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


class TestTree(Ours, TreeTests):
    async def test_a_command_killed_by_its_own_supervisor_hunt_leaves_the_sandbox_usable(
        self, own_sandbox: Sandbox
    ) -> None:
        # A hostile command ends the process between it and the guest.
        with pytest.raises(Exception, match="supervisor"):
            await own_sandbox.exec(f"sleep {MARK}0 & kill -9 $PPID; sleep {MARK}0", timeout=60)
        assert await alive(own_sandbox) == []
        assert (await own_sandbox.exec("echo still here")).stdout == "still here\n"
