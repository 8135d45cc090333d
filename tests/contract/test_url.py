"""Port tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import PortTests
from tests.contract.ours import Ours


class TestPort(Ours, PortTests):
    pass
