"""The container that the server is in, as a sandbox: where commands run."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from paddock._concurrency import AsyncResource, Shared
from paddock.backends.local import LocalBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.sandbox import Sandbox

__all__ = ["TOKEN_VARIABLE", "Workplace", "recipe", "server_environment"]

TOKEN_VARIABLE = "PADDOCK_TOKEN"
"""Has the server's token; commands do not get it."""


def server_environment() -> dict[str, str]:
    """Return the variables of the server that its agents and commands see."""
    return {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}


def recipe(working_dir: str, env: Mapping[str, str] | None = None) -> LocalBackend:
    """Return the recipe of sandboxes that are this container, with the server's environment."""
    env_vars = _valid({**server_environment(), **(env or {})})
    return LocalBackend(isolation="none", working_dir=working_dir, env_vars=env_vars)


def _valid(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value.encode(errors="replace").decode() for name, value in env.items()}


class Workplace(AsyncResource):
    """One such sandbox for one event loop, made when it is first needed."""

    def __init__(self, working_dir: str) -> None:
        self.working_dir = working_dir
        self._making: Shared[Sandbox] | None = None

    async def sandbox(self) -> Sandbox:
        """Return the sandbox, or make another where it is gone."""
        if self._making is not None and not self._making.failed:
            found = await self._making.wait()
            if not found.lost:
                return found
            await found.aclose()
        if self._making is None or self._making.failed or not self._making.is_current:
            self._making = Shared(self._make())
        return await self._making.wait()

    async def _make(self) -> Sandbox:
        await asyncio.to_thread(os.makedirs, self.working_dir, exist_ok=True)
        return await recipe(self.working_dir).create()

    async def _close(self) -> None:
        if self._making is not None and not self._making.failed:
            await (await self._making.wait()).aclose()
