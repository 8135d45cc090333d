"""A sandbox on a Daytona of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tenacity.wait import wait_fixed

from paddock.backends.daytona import service
from tests.e2e.daytona.served import made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from tests.e2e.conftest import Daytona


@pytest.fixture
async def sandbox(daytona: Daytona) -> AsyncIterator[DaytonaSandbox]:
    async with made(daytona.recipe) as sandbox:
        yield sandbox


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries of a call that failed, unless the service says how long."""
    monkeypatch.setattr(service, "_pause", wait_fixed(0.05))
