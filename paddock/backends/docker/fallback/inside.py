"""The first process of a container without Python, a program for a POSIX shell.

Of the tools that an image may have it needs a shell with its builtins, `cat` once, and `sleep`
for the lease.
"""

from __future__ import annotations

import math

from paddock.backends.posix.inside import CONTROL, HELLO, SAID

__all__ = ["first_process"]

TICKS = 4
"""Looks at the beats in one lease; after so many that have seen none, it is over."""

INIT = 'sh -c "$1" paddock "$2"; exit 0'
"""The first process. It waits for the watchdog, and by waiting it reaps everybody's orphans,
which a shell that reads would not do."""

BEATS = r"""
beats=/dev/shm/.paddock
if true >$beats; then
  (
    old= still=0
    while sleep "$1"; do
      new=
      read -r new <$beats
      if [ "$new" = "$old" ]; then still=$((still + 1)); else still=0; fi
      old=$new
      [ $still -lt 4 ] || kill -9 $$
    done
  ) </dev/null >/dev/null &
fi
"""
"""Ends the watchdog when it has heard no beat for a lease."""

WATCHDOG = f"{HELLO}cat /proc/1/environ\n{SAID}{BEATS}{CONTROL}"
"""Also ends with the given lifetime."""


def first_process(lease: float) -> list[str]:
    """Return the command of a container that ends after `lease` seconds without a heartbeat."""
    return ["sh", "-c", INIT, "paddock", WATCHDOG, str(math.ceil(lease / TICKS))]
