"""Tests of the kit for watched directories, on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import WatchTests
from tests.contract.ours import Ours


class TestWatch(Ours, WatchTests):
    pass
