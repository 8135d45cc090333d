"""The first process of a container without Python, a program for a POSIX shell.

Of the tools that an image may have it needs a shell with its builtins, `cat` once, and `sleep`
for the lease.
"""

from __future__ import annotations

import math

__all__ = ["WATCHDOG_READY", "first_process"]

WATCHDOG_READY = b"\0\0\n"
"""What ends the watchdog's first words."""
TICKS = 4
"""Looks at the beats in one lease; after so many that have seen none, it is over."""

INIT = 'sh -c "$1" paddock "$2"; exit 0'
"""The first process. It waits for the watchdog, and by waiting it reaps everybody's orphans,
which a shell that reads would not do."""

WATCHDOG = r"""
while read -r name uid rest && [ "$name" != Uid: ]; do :; done </proc/$$/status
printf '%s\0%s\0%s\0' "$uid" "$(command -v sh)" "$(command -v grep)"
cat /proc/1/environ
printf '\0\n'
exec 2>/dev/null
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
count=0
while read -r word rest; do
  case $word in
  beat)
    count=$((count + 1))
    echo $count >$beats
    ;;
  kill) kill -$rest ;;
  scan)
    for p in /proc/[0-9]*; do
      stat= environ= key=-
      while IFS= read -r line || [ "$line" ]; do stat=$stat$line; done <$p/stat
      while IFS= read -r line || [ "$line" ]; do environ=$environ$line; done <$p/environ
      case $environ in
      *PADDOCK_EXEC=*)
        key=${environ#*PADDOCK_EXEC=}
        key=${key%"${key#????????????????}"}
        ;;
      esac
      printf '%s %s\n' "$key" "$stat"
    done
    ;;
  esac
  echo .
done
"""
"""Does what lines of its stdin say, and ends with it: with its owner's stream, or when no
beat has come for a lease. It answers each line with a dot. It starts no process after its
beginning, so it works where no process can be started any more."""


def first_process(lease: float) -> list[str]:
    """The command of a container that ends when nobody is heard for `lease` seconds."""
    return ["sh", "-c", INIT, "paddock", WATCHDOG, str(math.ceil(lease / TICKS))]
