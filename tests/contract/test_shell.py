"""Tests of the kit for shell sessions, on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import ShellTests
from tests.contract.ours import Ours


class TestShell(Ours, ShellTests):
    pass
