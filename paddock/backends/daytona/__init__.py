"""Sandboxes in Daytona, through its own SDK."""

from paddock.backends.daytona.backend import DaytonaBackend
from paddock.backends.daytona.failures import sdk

__all__ = ["DaytonaBackend", "sdk"]
