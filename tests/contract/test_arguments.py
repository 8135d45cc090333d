"""Argument tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import ArgumentTests
from tests.contract.ours import Ours


class TestArgument(Ours, ArgumentTests):
    pass
