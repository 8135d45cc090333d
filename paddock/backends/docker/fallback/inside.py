"""What runs inside a container without Python: two programs for a POSIX shell.

Of the tools that an image may have they need a shell with its builtins, `cat` once, `sleep`
for the lease and `grep` to notice what a command has left behind.
"""

from __future__ import annotations

import math

__all__ = ["KEY", "KEY_LENGTH", "WATCHDOG_READY", "WRAPPER", "first_process"]

KEY = "PADDOCK_EXEC"
"""The variable by which a command's processes are known, wherever they went."""
KEY_LENGTH = 16
"""Characters of its value, which the watchdog cannot tell from what follows in its own way."""
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

WRAPPER = r"""
trap : HUP INT QUIT ALRM USR1 USR2
trap told=1 TERM
sh=$1 grep=$2
if ! cd "$3" 2>/dev/null; then
  if [ -d "$3" ]; then why=EACCES; elif [ -e "$3" ]; then why=ENOTDIR; else why=ENOENT; fi
  printf '\0%s cwd %s\0' "$PADDOCK_EXEC" $why
  exit
fi
shift 3
exec 3>&2 2>/dev/null
(
  exec 2>&3 3>&-
  exec "$sh" -c '
    printf "\0%s begin %s %s\0" "$PADDOCK_EXEC" "$1" $$
    shift
    exec "$@"
  ' sh $$ "$@"
)
code=$?
printf '\0%s end %s\0' "$PADDOCK_EXEC" $code >&3
exec 3>&-
left() {
  environs= stats=
  for p in /proc/[0-9]*; do
    [ "$p" = /proc/$$ ] || environs="$environs $p/environ" stats="$stats $p/stat"
  done
  "$grep" -qsF "PADDOCK_EXEC=$PADDOCK_EXEC" $environs ||
    "$grep" -qs ") [^Z] [0-9]* [0-9]* $$ " $stats
}
left
printf '\0%s end %s %s\0' "$PADDOCK_EXEC" $code $?
while [ ! "$told" ] && left; do sleep 5; done
"""
"""Runs a command, tells on both its streams when it has ended, and stays for as long as
something of it is left: an engine stops reading what a command's children print two seconds
after the process that it started has ended.

Its arguments are a shell, a grep, a directory and the command's words. A trapped signal does
not end it while the command runs, and is not trapped in what it starts."""


def first_process(lease: float) -> list[str]:
    """The command of a container that ends when nobody is heard for `lease` seconds."""
    return ["sh", "-c", INIT, "paddock", WATCHDOG, str(math.ceil(lease / TICKS))]
