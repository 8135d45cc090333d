"""The scripts of `PosixFileSystem`, for a POSIX shell and the tools that every image has.

Paths are absolute. A script that finds something wrong says so as a tool would, with the
error's own words at the end of a line of stderr, and ends with 1.
"""

from __future__ import annotations

from paddock.backends.posix.shallow import PLACES, TOP

__all__ = [
    "CHMOD", "CHOWN", "CONTENTS", "DELETE", "FIND", "LSTAT", "MAKE", "MOVE", "PACK", "PARENTS",
    "PART", "REGULAR", "STAT", "STAT_FORMAT", "TEXTS", "UNPACK", "WHOLE",
]  # fmt: skip

STAT_FORMAT = "//%f %s %Y %u %g %n"
"""Mode in hexadecimal, size, time of change, owner, group, name. No path has two slashes in a
row, so that is where the next one begins, whatever the name before it holds."""
REGULAR = """
regular() {
  [ ! -f "$1" ] || return 0
  if [ -d "$1" ]; then echo "$1: Is a directory" >&2
  elif [ -e "$1" ]; then echo "$1: Not a regular file" >&2
  else stat -L "$1"
  fi >/dev/null
  exit 1
}
"""

STAT = f"""exec stat -L -c '{STAT_FORMAT}' "$1" """
LSTAT = f"""exec stat -c '{STAT_FORMAT}' "$1" """

WHOLE = f"""{REGULAR}
regular "$1"
size=$(stat -L -c %s "$1") || exit
echo $size
[ $size -gt "$2" ] || exec cat "$1"
"""
"""Of path $1 the size, a newline, and its contents unless it has more than $2 bytes."""

PART = f"""{REGULAR}
regular "$1"
size=$(stat -L -c %s "$1") || exit
echo $size
[ $size -le "$4" ] || exec dd if="$1" bs=65536 skip="$2" count="$3" 2>/dev/null
"""
"""The same, with the contents from block $2, $3 blocks of them, if there is more than $4."""

CONTENTS = f"""{REGULAR}
regular "$1"
size=$(stat -L -c %s "$1") || exit
[ $size -gt 0 ] || size=67108864
blocks=$(((size + 65535) / 65536 - $2))
[ $blocks -le 0 ] || exec dd if="$1" bs=65536 skip="$2" count=$blocks
[ -r "$1" ] || exec cat "$1"
"""
"""The contents of path $1 from block $2 on, of the size that it has now: it may grow without
end. Of a file that says it has none, as those of /proc do, what there is."""

PARENTS = """
parents() {
  if [ -z "$1" ] || [ -d "$1" ]; then return; fi
  if [ -e "$1" ]; then echo "$1: Not a directory" >&2; exit 1; fi
  parents "${1%/*}"
  mkdir "$1" || [ -d "$1" ] || exit
}
"""
"""Makes a directory and those above it."""

MAKE = f"""{PARENTS}
[ "$2" = 0 ] || parents "${{1%/*}}"
if [ "$3" = 1 ] && [ -d "$1" ]; then exit 0; fi
exec mkdir "$1"
"""

CHOWN = """
[ -e "$1" ] || stat -L "$1" >/dev/null || exit
exec chown "$2" "$1"
"""

CHMOD = """
[ -e "$1" ] || stat -L "$1" >/dev/null || exit
exec chmod "$2" "$1"
"""

DELETE = """
empty() (
  cd -P "$1" || exit
  round=0
  while [ $round -lt 10000 ]; do
    round=$((round + 1))
    find . -mindepth 15 -maxdepth 15 -type d -exec sh -c '
      round=$1 number=0
      shift
      for each; do mv "$each" "./.paddock-$round-$$-$((number += 1))" || exit; done
    ' sh $round {} + || exit
    find . -mindepth 1 -maxdepth 1 ! -name ".paddock-$round-*" -exec rm -rf {} + || exit
    [ -n "$(find . -mindepth 1 -maxdepth 1)" ] || exit 0
  done
)
if [ -d "$1" ] && [ ! -L "$1" ]; then
  [ "$2" = 1 ] || exec rmdir "$1"
  problem=$(rm -rf "$1" 2>&1) && exit
  case $problem in
    *"ame too long"*) empty "$1" && exec rmdir "$1"; exit 1 ;;
    *) echo "$problem" >&2; exit 1 ;;
  esac
fi
[ -L "$1" ] || stat "$1" >/dev/null || exit
exec rm -f "$1"
"""
"""Remove path $1, with $2 = 1 and all below it. An `rm` that works by whole paths cannot reach
those that are too long, so what is 15 names deep is moved up and the rest removed, until
nothing is left."""

MOVE = """
[ -L "$1" ] || stat "$1" >/dev/null || exit
[ "$1" != "$2" ] || exit 0
is_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
case $2 in "$1"/*) echo "$2: Invalid argument" >&2; exit 1 ;; esac
case $1 in "$2"/*) echo "$2: Directory not empty" >&2; exit 1 ;; esac
if is_folder "$2"; then
  is_folder "$1" || { echo "$2: Is a directory" >&2; exit 1; }
  rmdir "$2" || exit
elif [ -L "$2" ] || [ -e "$2" ]; then
  ! is_folder "$1" || { echo "$2: Not a directory" >&2; exit 1; }
  [ ! -L "$2" ] || rm -f "$2" || exit
fi
exec mv -f "$1" "$2"
"""

FIND = """
if ! cd "$1" 2>/dev/null; then
  if [ -d "$1" ]; then echo "$1: Permission denied" >&2
  elif [ -e "$1" ]; then echo "$1: Not a directory" >&2
  else stat -L "$1" >/dev/null
  fi
  exit 1
fi
[ -r . ] || { echo "$1: Permission denied" >&2; exit 1; }
shift
find . "$@"
code=$?
[ $code -ne 127 ] || exit 127
exit 0
"""
"""find(1) below $1. What it cannot enter is left out."""

TEXTS = r"""
separator=$2 blocks=$3
shift 3
for name; do
  dd if="$name" bs=65536 count="$blocks"
  printf '\0%s\0' "$separator"
done 2>/dev/null
"""
"""The contents of files below $1, in which it is run, each followed by $2 between NULs: at most
$3 blocks of each, and nothing of what cannot be read."""

PACK = """
[ -r . ] || { echo "$1: Permission denied" >&2; exit 1; }
copies=--hard-dereference
tar $copies -cf /dev/null -T /dev/null 2>/dev/null || copies=
exec 3>&1
code=$({ {
  tar $copies -cf - . >&3 3>&- 4>&-
  echo $? >&4
} 2>&1 | sed 's/.*: \\(File *name too long\\)$/tar: \\1/' >&2; } 4>&1)
exit $code
"""
"""The directory $1, in which it is run, as a tar stream. Paths that are too long are cut from
its messages, so that those are few bytes."""

UNPACK = """
is_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
check() (
  for source in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    [ -L "$source" ] || [ -e "$source" ] || continue
    target=$2/${source##*/}
    if is_folder "$source" && is_folder "$target"; then
      check "$source" "$target" || exit
    elif is_folder "$target"; then
      echo "$target: A directory is in the way" >&2
      exit 1
    elif is_folder "$source" && { [ -L "$target" ] || [ -e "$target" ]; }; then
      echo "$target: A file or link is in the way" >&2
      exit 1
    fi
  done
)
merge() (
  here=$1 there=$2
  set --
  for source in "$here"/* "$here"/.[!.]* "$here"/..?*; do
    [ -L "$source" ] || [ -e "$source" ] || continue
    target=$there/${source##*/}
    if is_folder "$source" && is_folder "$target"; then
      merge "$source" "$target" || exit
      continue
    fi
    set -- "$@" "$source"
    [ $# -lt 100 ] || { mv -f "$@" "$there/" && set -- || exit; }
  done
  [ $# -eq 0 ] || mv -f "$@" "$there/"
)
move() {
  ! is_folder "$target/$3" || return 0
  chmod u+rwx "$1" "${2%/*}" && mv "$1" "$2" || exit
}
check_moved() { ! is_folder "$1" || check "$stage/$1" "$target/$3" || exit; }
merge_moved() { ! is_folder "$1" || merge "$stage/$1" "$target/$3" || exit; }
for_each() {
  step=$1
  [ ! -e PLACES ] || . ./PLACES
}
target=$1
if [ -d "$target" ]; then
  folder=$target
else
  folder=${target%/*}
  mkdir -p "${folder:=/}" || exit
  if [ -L "$target" ] || [ -e "$target" ]; then echo "$target: File exists" >&2; exit 1; fi
fi
stage=$folder/.paddock-$2
trap 'rm -rf "$stage"' EXIT
mkdir -m 700 "$stage" && mkdir "$stage/TOP" && cd "$stage" || exit
tar -xpof - || exit
for_each move
if [ -d "$target" ]; then
  check "$stage/TOP" "$target" && for_each check_moved &&
    merge "$stage/TOP" "$target" && for_each merge_moved
else
  mv "$stage/TOP" "$target"
fi
""".replace("TOP", TOP).replace("PLACES", PLACES)
"""A tar stream from stdin, with `ShallowNames`, below $1, extracted under a name with $2 first.
What is in the way is found before anything moves. A directory of its own is moved into that above
it, unless the target has one of its name: then it is merged by itself."""
