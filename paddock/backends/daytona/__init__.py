"""Sandboxes in Daytona, through its own SDK."""

from paddock.backends.daytona.backend import DaytonaBackend

__all__ = ["DaytonaBackend"]
