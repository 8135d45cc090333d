"""How files are written inside, in a POSIX shell: the scripts `WRITE` and `CLEAN`.

They do what `paddock.backends.guest.inside.writing` does: a file that is there is replaced
where that loses nothing, and overwritten otherwise.
"""

from __future__ import annotations

from paddock.backends.posix.scripts import PARENTS, REGULAR

__all__ = ["CHANGED", "CLEAN", "WRITE"]

CHANGED = "The file is not as it was read"

PLACE = """
path=$1
if [ -L "$path" ]; then
  path=$(cd "${path%/*}/" && readlink -f "$path" && echo .) || { stat -L "$1" >/dev/null; exit 1; }
  path=${path%??}
fi
folder=${path%/*}
temporary=$folder/.paddock-$2
elsewhere=${TMPDIR:-/tmp}
[ -w "$elsewhere" ] || elsewhere=/dev/shm
elsewhere=$elsewhere/.paddock-$2
"""
"""Where a file that is written goes to: a link stays, what it points to is written. What is on
its way is beside it, or, where the directory takes no new file, elsewhere. BusyBox takes a link
that leads nowhere as if it stood in the working directory."""

WRITE = f"""{REGULAR}{PARENTS}
fail() {{ echo "$path: $1" >&2; exit 1; }}
size=$3 mode=$4 condition=$5 mark=$6 source=$7
if [ "$condition" = exclusive ]; then
  if [ -e "$1" ] || [ -L "$1" ]; then fail 'File exists'; fi
fi
{PLACE}
parents "$folder"
how=replace
if [ -e "$path" ]; then
  regular "$path"
  (: >>"$path") || exit
  mode=$(stat -c %a "$path") || exit
  case $mode in ????*) mode=${{mode#?}} ;; esac
  owner=$(stat -c %u:%g "$path")
  [ "$(stat -c %h "$path")" = 1 ] || how=overwrite
else
  owner=
fi
trap 'rm -f "$temporary" "$elsewhere"' EXIT
if [ -n "$source" ]; then
  regular "$source"
  if [ "$source" -ef "$path" ]; then fail 'Invalid argument'; fi
  size=$(stat -L -c %s "$source") || exit
  if [ -z "$owner" ]; then
    mode=$(stat -L -c %a "$source") || exit
    case $mode in ????*) mode=${{mode#?}} ;; esac
  fi
  exec <"$source"
fi
if ! (umask 077; : >"$temporary") 2>/dev/null; then
  [ -n "$owner" ] || (: >"$temporary") || exit
  how=overwrite temporary=$elsewhere
  (umask 077; : >"$temporary") || exit
fi
[ -z "$mark" ] || echo
cat >"$temporary" || exit
written=$(stat -c %s "$temporary")
if [ -n "$mark" ]; then
  size=$((written - ${{#mark}}))
  if [ "$(tail -c ${{#mark}} "$temporary")" != "$mark" ]; then fail 'Input/output error'; fi
  dd if=/dev/null of="$temporary" bs=1 seek=$size 2>/dev/null || exit
elif [ "$written" != "$size" ]; then
  fail 'Input/output error'
fi
case $condition in
replace | exclusive) ;;
append)
  trap '' TERM
  cat "$temporary" >>"$path"
  exit
  ;;
*)
  sum=
  [ ! -f "$path" ] || sum=$(sha256sum <"$path") || exit
  [ "${{sum%% *}}" = "$condition" ] || {{ echo "{CHANGED}" >&2; exit 1; }}
  ;;
esac
if [ $how = replace ]; then
  if [ -n "$owner" ] && [ "$owner" != "$(stat -c %u:%g "$temporary")" ]; then
    chown "$owner" "$temporary" 2>/dev/null || how=overwrite
  fi
  chmod "${{mode:-=rw}}" "$temporary" || exit
fi
if [ "$condition" = exclusive ]; then
  ln "$temporary" "$path"
elif [ $how = replace ] && mv -f "$temporary" "$path" 2>/dev/null; then
  exit 0
elif [ -n "$owner" ]; then
  trap '' TERM
  cat "$temporary" >"$path"
else
  mv -f "$temporary" "$path"
fi
"""
"""Stdin to path $1, by way of a name with $2: $3 bytes, or up to the mark $6, after saying that
the file is open. A new file gets mode $4. The condition $5 is `replace`, `exclusive`, `append`
or the SHA-256 of what has to be there. With a source $7, its contents instead of stdin."""

CLEAN = f"""{PLACE}
[ ! -d "$temporary" ] || chmod -R u+rwx "$temporary"
rm -rf "$temporary" "$elsewhere" "$path/.paddock-$2"
"""
"""Remove what a script that was ended has left of $1 under a name with $2."""
