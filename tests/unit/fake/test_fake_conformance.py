"""`FakeBackend` passes the kit, as far as its capabilities go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance import BackendConformance
from paddock.testing.fake import FakeBackend, FakeSandbox

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


class TestFake(BackendConformance):
    async def kill(self, sandbox: Sandbox) -> None:
        assert isinstance(sandbox, FakeSandbox)
        sandbox.die("it was ended from outside")
