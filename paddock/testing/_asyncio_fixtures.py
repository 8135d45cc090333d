"""The plugin's asynchronous fixtures, for tests that pytest-asyncio runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest_asyncio

from paddock.testing.plugin import SCOPES

if TYPE_CHECKING:
    from paddock.testing._lending import SandboxFactory

__all__: list[str] = []


def _define(scope: Any) -> None:
    """Define the fixtures for tests whose event loop has that scope."""

    @pytest_asyncio.fixture(loop_scope=scope, name=f"_paddock_factory_on_asyncio_{scope}")
    async def factory(_paddock_lender: SandboxFactory) -> Any:
        async with _paddock_lender:
            yield _paddock_lender

    @pytest_asyncio.fixture(loop_scope=scope, name=f"_paddock_sandbox_on_asyncio_{scope}")
    async def sandbox(_paddock_lender: SandboxFactory) -> Any:
        async with _paddock_lender:
            yield await _paddock_lender.make()

    globals().update({f"{scope}_factory": factory, f"{scope}_sandbox": sandbox})


for _scope in SCOPES:
    _define(_scope)
