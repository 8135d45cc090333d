"""Transfer tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import TransferTests
from tests.contract.ours import Ours


class TestTransfer(Ours, TransferTests):
    pass
