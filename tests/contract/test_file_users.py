"""FileUser tests of the kit on our own backends."""

from __future__ import annotations

from paddock.testing.conformance import FileUserTests
from tests.contract.ours import Ours


class TestFileUser(Ours, FileUserTests):
    pass
