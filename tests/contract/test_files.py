"""File tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import FileTests
from tests.contract.ours import Ours


class TestFile(Ours, FileTests):
    pass
