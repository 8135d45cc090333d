"""Cancellation tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import CancellationTests
from tests.contract.ours import Ours


class TestCancellation(Ours, CancellationTests):
    pass
