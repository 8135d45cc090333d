"""A server with the handler of the recordings, and a store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from paddock.runtime.remote.server import RuntimeServer
from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


class Serve(Protocol):
    def __call__(
        self, handler: object = None, settings: ServerSettings | None = None, **options: Any
    ) -> AbstractAsyncContextManager[RuntimeServer]: ...


QUICK = ServerSettings(
    heartbeat=5.0, linger=0.2, grace=0.2, upload_pauses=(0.0, 0.0), handler_grace=5.0
)
"""What nobody waits for in these tests."""


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Open servers in a directory of the test's own."""
    (tmp_path / "work").mkdir()

    @asynccontextmanager
    async def open_server(
        handler: object = None, settings: ServerSettings | None = None, **options: Any
    ) -> AsyncIterator[RuntimeServer]:
        given: dict[str, Any] = {
            "port": 0,
            "working_dir": str(tmp_path / "work"),
            "state_dir": str(tmp_path / "state"),
        }
        async with RuntimeServer(
            Lab() if handler is None else handler, settings=settings or QUICK, **(given | options)
        ) as server:
            yield server

    return open_server


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        yield opened
