"""Tests of the kit for processes that are listed and joined, on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import JoinTests
from tests.contract.ours import Ours


class TestJoining(Ours, JoinTests):
    pass
