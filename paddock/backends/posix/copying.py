"""How a directory is copied inside, in a POSIX shell: the script `COPY`."""

from __future__ import annotations

from paddock.backends.posix.scripts import PARENTS

__all__ = ["COPY"]

COPY = f"""{PARENTS}
fail() {{ echo "$1: $2" >&2; exit 1; }}
real() {{ cd -P "${{1:-/}}" 2>/dev/null || fail "$1" 'Permission denied'; pwd -P && echo .; }}
source=$(real "$2") || exit
source=${{source%??}}
if [ -L "$1" ] || [ -e "$1" ]; then fail "$1" 'File exists'; fi
above=${{1%/*}}
while [ ! -d "${{above:-/}}" ] && [ ! -e "$above" ]; do above=${{above%/*}}; done
if [ -d "${{above:-/}}" ]; then
  target=$(real "$above") || exit
  case ${{target%??}}/ in "${{source%/}}"/*) fail "$1" 'Invalid argument' ;; esac
fi
[ -r "$source" ] || fail "$source" 'Permission denied'
special=$(find "$source" ! -type f ! -type d ! -type l 2>/dev/null)
[ -z "$special" ] || fail "$source" 'Not a regular file'
parents "${{1%/*}}"
stage=${{1%/*}}/.paddock-$3
trap 'chmod -R u+rwx "$stage" 2>/dev/null; rm -rf "$stage"' EXIT
cp -RPp "$source" "$stage" || exit
if [ "$(id -u)" = 0 ]; then chown -hR "0:$(id -g)" "$stage" || exit; fi
find "$stage" ! -type l '(' -perm -4000 -o -perm -2000 -o -perm -1000 ')' \
  -exec chmod ug-s,-t {{}} + || exit
if [ -L "$1" ] || [ -e "$1" ]; then fail "$1" 'File exists'; fi
mv "$stage" "$1" && trap - EXIT
"""
"""The directory $2 to the new directory $1, by way of a name with $3. Links are copied and never
followed; permissions and times are kept, owners are not."""
