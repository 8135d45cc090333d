"""What runs in a sandbox that has a POSIX shell: a control shell, and a wrapper of each command.

They need a shell with its builtins, `sleep`, `grep` to notice what a command has left behind,
and Linux's /proc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CONTROL",
    "HELLO",
    "KEY",
    "KEY_LENGTH",
    "LAUNCH",
    "READY",
    "REAP",
    "SAID",
    "WRAPPER",
    "Inside",
]

KEY = "PADDOCK_EXEC"
"""The variable that marks all processes of a command, even those that left its session."""
KEY_LENGTH = 16
"""Characters of its value. A scan cannot tell where the value ends in another way."""

READY = b"\0\0\n"
"""Ends the control shell's first words."""

HELLO = r"""
while read -r name uid rest && [ "$name" != Uid: ]; do :; done </proc/$$/status
printf '%s\0%s\0%s\0' "$uid" "$(command -v sh)" "$(command -v grep)"
"""
"""The control shell's first words: see `Inside`."""

SAID = r"""
printf '\0\n'
exec 2>/dev/null
"""
"""The end of them."""

LOOK = r"""
read_start() {
  shift 19
  start=$1
}
look() {
  stat= environ= key=- start=0
  while IFS= read -r line || [ "$line" ]; do stat=$stat$line; done <$1/stat
  [ -z "$stat" ] || read_start ${stat##*) }
  [ "$start" -ge "${first:-0}" ] || return
  while IFS= read -r line || [ "$line" ]; do environ=$environ$line; done <$1/environ
  case $environ in
  *PADDOCK_EXEC=*)
    key=${environ#*PADDOCK_EXEC=}
    key=${key%"${key#????????????????}"}
    case $key in "" | *[!0123456789abcdef]*) key=- ;; esac
    ;;
  esac
}
"""
"""Finds the command that a process belongs to by what its environment was at first. Those that are
older than `first` belong to none: to read the environment of all there are takes seconds on a
machine that is not ours alone, for a shell reads byte by byte."""

CONTROL = rf"""{LOOK}
look /proc/$$
first=$start count=0 timer=
while read -r word rest; do
  case $word in
  beat)
    count=$((count + 1))
    echo $count >$beats
    ;;
  kill) kill -$rest ;;
  lifetime)
    [ -z "$timer" ] || kill $timer
    (sleep "$rest" && kill -9 $$) </dev/null >/dev/null &
    timer=$!
    ;;
  scan)
    for p in /proc/[0-9]*; do
      look $p && printf '%s %s\n' "$key" "$stat"
    done
    ;;
  esac
  echo .
done
"""
"""Does what lines of its stdin say, and ends with it. It answers each line with a dot. But for
a lifetime it starts no process after its beginning, so it works where no process can be started
any more."""

REAP = rf"""{LOOK}
trap '' HUP INT PIPE TERM
exec 2>/dev/null
found=1
while [ "$found" ]; do
  found=
  for p in /proc/[0-9]*; do
    look $p
    case $key in
    $1*) kill -9 ${{p#/proc/}} && found=1 ;;
    esac
  done
done
"""
"""Kills the commands whose keys begin with $1. A control shell does it that has lost its owner."""

LAUNCH = r"""
_paddock_read() {
  IFS= read -r _paddock_word || exit
  case $_paddock_word in
  %*)
    _paddock_word=$(printf '%b.' "${_paddock_word#?}")
    _paddock_word=${_paddock_word%.}
    ;;
  *) _paddock_word=${_paddock_word#?} ;;
  esac
}
_paddock_wrapper=$1
shift
IFS=' ' read -r _paddock_stdin _paddock_names _paddock_words || exit
while [ "$_paddock_words" != 0 ]; do
  _paddock_read
  set -- "$@" "$_paddock_word"
  _paddock_words=$((_paddock_words - 1))
done
while [ "$_paddock_names" != 0 ]; do
  _paddock_read
  export "$_paddock_word"
  _paddock_names=$((_paddock_names - 1))
done
[ "$_paddock_stdin" = 1 ] || exec </dev/null
exec "$1" -c "$_paddock_wrapper" paddock "$@"
"""
"""Reads `command.header` from stdin and becomes the wrapper, which $1 is. So no argument of a
program on either side shows a command's environment, and its length does not matter."""

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
look() {
  environs= stats=
  for p in /proc/[0-9]*; do
    [ "$p" = /proc/$$ ] || environs="$environs $p/environ" stats="$stats $p/stat"
  done
  "$grep" -qsF "PADDOCK_EXEC=$PADDOCK_EXEC" $environs ||
    "$grep" -qs ") [^Z] [0-9]* [0-9]* $$ " $stats
}
left() { look || look; }
left
printf '\0%s end %s %s\0' "$PADDOCK_EXEC" $code $?
while [ ! "$told" ] && left; do sleep 5; done
"""
"""Runs a command, tells on both its streams when it has ended, and stays for as long as
something of it is left: an engine stops reading what a command's children print two seconds
after the process that it started has ended.

It looks twice before it says that nothing is left: a process that just executes another program
has no environment for a moment.

Its arguments are a shell, a grep, a directory and the command's words. A trapped signal does
not end it while the command runs, and is not trapped in what it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """The first words of a control shell: where the shell and grep are, and the environment of
    the first process, if it was asked for that."""

    root: bool
    """Whether commands run as root by default."""
    user: str | None = None
    """Whom they run as, where that is known."""
    sh: str
    grep: str
    env: Mapping[str, str]

    @classmethod
    def parse(cls, told: bytes) -> Inside:
        uid, sh, grep, *pairs = told.decode(errors="surrogateescape").split("\0")
        env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        # A shell that is its own tools may not say where they are.
        sh = sh if sh.startswith("/") else "/bin/sh"
        return cls(root=uid == "0", sh=sh, grep=grep or "grep", env=env)
