"""Tests of the kit for limits of time, on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import LifetimeTests
from tests.contract.ours import Ours


class TestLifetimes(Ours, LifetimeTests):
    pass
