"""Record a sandbox's traffic, and replay it; see ``docs/ci.md``."""

from __future__ import annotations

from paddock.testing.recorded.backend import Recorded
from paddock.testing.recorded.cassette import CassetteMismatch

__all__ = ["CassetteMismatch", "Recorded"]
