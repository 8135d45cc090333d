"""FileStream tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import FileStreamTests
from tests.contract.ours import Ours


class TestFileStream(Ours, FileStreamTests):
    pass
