"""A Daytona on this machine, for tests: the real SDK talks to it unmodified."""

from __future__ import annotations
