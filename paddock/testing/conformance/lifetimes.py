"""`lifetime`, `idle_timeout` and `renew`: when a sandbox ends by itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError, SandboxError, SandboxLost, Unsupported
from paddock.testing.conformance.base import DEADLINE, Conformance, vary

if TYPE_CHECKING:
    from paddock.backends.base import Backend
    from paddock.sandbox import Sandbox

LEFT_ALONE = 6.0
"""Seconds without a question, which are longer than the limits of these tests."""


async def _made(recipe: Backend) -> Sandbox:
    try:
        return await recipe.create()
    except Unsupported as error:
        pytest.skip(str(error))


async def _until_lost(sandbox: Sandbox) -> None:
    """Let the sandbox alone until it is known to be gone, or for a while; ask, and begin again."""
    async with asyncio.timeout(DEADLINE):
        while True:
            await asyncio.sleep(LEFT_ALONE)
            try:
                await sandbox.exec("true")
            except SandboxLost:
                return


class LifetimeTests(Conformance):
    async def test_a_sandbox_ends_with_its_lifetime_whatever_runs_in_it(
        self, backend: Backend
    ) -> None:
        async with await _made(vary(backend, lifetime=2)) as sandbox:
            began = time.monotonic()
            with pytest.raises(SandboxError):
                async with asyncio.timeout(DEADLINE):
                    await sandbox.exec("sleep 1000")
            assert time.monotonic() - began >= 1
            await _until_lost(sandbox)

    async def test_a_lifetime_that_is_renewed_begins_again(self, backend: Backend) -> None:
        async with await _made(vary(backend, lifetime=3)) as sandbox:
            await sandbox.renew(600)
            await asyncio.sleep(4)
            assert (await sandbox.exec("echo alive")).stdout == "alive\n"
            await sandbox.renew(1)
            await _until_lost(sandbox)

    async def test_a_sandbox_without_a_lifetime_has_none_to_renew(self, backend: Backend) -> None:
        async with backend.sandbox() as sandbox:
            with pytest.raises((ConfigError, Unsupported), match="renew"):
                await sandbox.renew()
            with pytest.raises(ConfigError, match="lifetime=0: give a number of seconds above 0"):
                await sandbox.renew(0)

    async def test_an_idle_sandbox_ends_and_one_that_is_used_does_not(
        self, backend: Backend
    ) -> None:
        async with await _made(vary(backend, idle_timeout=3)) as sandbox:
            assert (await sandbox.exec("sleep 5; echo busy")).stdout == "busy\n"
            await _until_lost(sandbox)

    @pytest.mark.parametrize("name", ["lifetime", "idle_timeout"])
    async def test_a_limit_of_time_is_a_number_of_seconds(
        self, backend: Backend, name: str
    ) -> None:
        for wrong in (0, -1, "60", True, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=f"{name}=.*: give a number of seconds above 0"):
                vary(backend, **{name: wrong})
