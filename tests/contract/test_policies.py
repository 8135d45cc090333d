"""Policy tests of the kit on our own backends, of which we know what each enforces."""

from __future__ import annotations

import pytest

from paddock.testing.conformance import PolicyTests
from tests.contract.conftest import HOLDS
from tests.contract.ours import Ours


class TestPolicy(Ours, PolicyTests):
    @pytest.fixture
    def held(self, request: pytest.FixtureRequest) -> frozenset[str]:
        """See `HOLDS`."""
        return HOLDS[request.node.callspec.params["backend"]]
