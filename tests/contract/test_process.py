"""Process tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import ProcessTests
from tests.contract.ours import Ours


class TestProcess(Ours, ProcessTests):
    pass
