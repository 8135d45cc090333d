"""Tcp tests of the kit on our own backends."""

from __future__ import annotations

import pytest

from paddock.testing.conformance import TcpTests
from tests.contract.ours import Ours


@pytest.mark.parametrize(
    "backend", ["docker", "local-bubblewrap", "local-landlock", "local-none"], indirect=True
)
class TestTcp(Ours, TcpTests):
    """On those whose addresses lead anything over TCP; the others' are for HTTP."""
