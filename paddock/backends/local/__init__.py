"""Sandboxes on this machine: a guest as a child process, fenced in by bubblewrap or Landlock.

A probe finds what the machine can enforce; `capabilities` and `paddock doctor` report it.
Nothing runs without isolation unless `isolation="none"` was chosen.
"""

from paddock.backends.local.backend import LocalBackend
from paddock.backends.local.probing import probe

__all__ = ["LocalBackend", "probe"]
