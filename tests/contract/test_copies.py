"""Copy tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import CopyTests
from tests.contract.ours import Ours


class TestCopy(Ours, CopyTests):
    pass
