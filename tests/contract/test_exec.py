"""Exec tests of the kit on our own backends, and what only a guest promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance import ExecTests
from paddock.testing.conformance.watch import bounded_memory
from tests.contract.ours import Ours

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


class TestExec(Ours, ExecTests):
    @pytest.mark.parametrize("backend", ["docker"], indirect=True)
    async def test_a_line_of_a_gigabyte_is_bounded(self, sandbox: Sandbox) -> None:
        """What is not kept stays inside: the guest counts it, and that is the same everywhere."""
        async with bounded_memory():
            result = await sandbox.exec("head -c 1G /dev/zero", timeout=120)
        assert result.out.total == 1024**3
        assert result.out.spill_truncated

    @pytest.mark.parametrize("backend", ["docker", "local-none", "daytona"], indirect=True)
    async def test_a_guest_spills_what_is_left_out(self, sandbox: Sandbox) -> None:
        assert (await sandbox.exec("seq 1000", max_output=10)).out.spill is not None
