"""Commands that kill what stands between them and the guest get an error, never a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import SandboxError
from tests.hostile.conftest import WITH_GUEST

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


@pytest.mark.parametrize("backend", WITH_GUEST, indirect=True)
async def test_a_command_that_kills_its_supervisor_fails_and_the_next_one_runs(
    sandbox: Sandbox,
) -> None:
    with pytest.raises(SandboxError, match="killed its supervisor"):
        await sandbox.exec("kill -9 $PPID; sleep 60", timeout=30)
    assert (await sandbox.exec("echo alive", timeout=30)).stdout == "alive\n"
