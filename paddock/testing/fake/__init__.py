"""Sandboxes in memory; see ``docs/ci.md``."""

from __future__ import annotations

from paddock.testing.fake.backend import FakeBackend, FakeHost
from paddock.testing.fake.faults import Fault, FaultOrder
from paddock.testing.fake.sandbox import FakeSandbox
from paddock.testing.fake.script import FakeCall, Reply

__all__ = ["FakeBackend", "FakeCall", "FakeHost", "FakeSandbox", "Fault", "FaultOrder", "Reply"]
