"""Lifecycle tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import LifecycleTests
from tests.contract.ours import Ours


class TestLifecycle(Ours, LifecycleTests):
    pass
