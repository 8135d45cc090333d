"""What runs inside for a shell session: see `paddock.shell`.

`MAIN` runs a command. The file `state` in the session's directory brings back what the command
before has left; it is replaced in one step, at the end of a command. What is done for that shows in
no trace (``set -x``) and ends no command (``set -e``). Where the directory that the session is in
was removed, commands run in one that was removed, too, as in any shell.
"""

from __future__ import annotations

__all__ = ["BEGIN", "MAIN", "RUN_BASH", "RUN_SH"]

MAIN = (
    'eval "$1"; eval "$_paddock_on$_paddock_command"; '
    "{ _paddock_code=$? _paddock_set=$-; set +eux; } 2>/dev/null; "
    "case $(trap) in *_paddock_save*) trap - EXIT ;; esac; _paddock_save"
)
"""The program of a command. $1 is one of the scripts below, $2 the session's directory, $3 the
command; the others are names of variables that are not kept. The command is on its first line,
which is what errors name. An EXIT trap of the command itself runs at the end of that."""

BEGIN = r"""
umask 077
mkdir -p "${TMPDIR:-/tmp}"
folder=$(mktemp -d "${TMPDIR:-/tmp}/paddock-shell.XXXXXXXXXX") || exit
printf '%s\n' "$1" >"$folder/state" && echo "$folder" || exit
command -v bash
true
"""
"""Makes the directory of a session, and tells whether there is a bash."""

COMMON = r"""
_paddock_options() {
  for _paddock_name in e f u x; do
    case $1 in *$_paddock_name*) printf 'set -%s; ' "$_paddock_name" ;; esac
  done
}
_paddock_replace() {
  mv -f "$_paddock_folder/new" "$_paddock_folder/state" 2>/dev/null
}
_paddock_nowhere() {
  mkdir -p "$_paddock_folder/gone" && cd "$_paddock_folder/gone" && rmdir "$_paddock_folder/gone"
}
_paddock_folder=$2 _paddock_command=$3
shift 3
_paddock_secret=" $* " _paddock_on=
set --
"""

GO = r"""
. "$_paddock_folder/state" >/dev/null 2>&1
_paddock_old=${OLDPWD-}
cd -- "$_paddock_there" || _paddock_nowhere
if [ "$_paddock_old" ]; then OLDPWD=$_paddock_old; else unset OLDPWD; fi
trap '{
  _paddock_left=$?
  [ "${_paddock_code-}" ] && exit "$_paddock_code"
  _paddock_code=$_paddock_left _paddock_set=$-
  set +eux
} 2>/dev/null
_paddock_save' EXIT
"""

RUN_BASH = rf"""
{COMMON}
_paddock_given=$(compgen -e)
_paddock_save() {{
  trap - DEBUG RETURN ERR
  {{
    for _paddock_name in $_paddock_given; do
      [ "${{!_paddock_name+set}}" ] || echo "unset $_paddock_name"
    done
    for _paddock_name in $(compgen -v); do
      case $_paddock_secret in *" $_paddock_name "*) continue ;; esac
      case $_paddock_name in
      _paddock_* | BASH* | DIRSTACK | EPOCH* | EUID | FUNCNAME | GROUPS | LINENO | PIPESTATUS) ;;
      PPID | RANDOM | SHELLOPTS | SRANDOM | UID | _) ;;
      *) declare -p "$_paddock_name" ;;
      esac
    done
    _paddock_on=$(_paddock_options "$_paddock_set")
    for _paddock_name in $(compgen -A function); do
      case $_paddock_name in _paddock_*) ;; *) declare -f "$_paddock_name" ;; esac
    done
    declare -F | grep -v ' _paddock_'
    alias -p
    shopt -p
    set +o
    trap -p
    echo "umask $(umask)"
    printf '_paddock_there=%q _paddock_on=%q\n' "$PWD" "$_paddock_on"
  }} >"$_paddock_folder/new" 2>/dev/null && _paddock_replace
  exit $_paddock_code
}}
{GO}
"""
"""bash keeps all that it can print as text that it reads again."""

RUN_SH = rf"""
{COMMON}
_paddock_given=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p')
_paddock_quoted() {{
  printf "%s='" "$1"
  printf '%s.' "$2" | sed "s/'/'\\\\''/g; \$s/\.\$/'/"
  echo
}}
_paddock_save() {{
  _paddock_all=$(set | sed -n "s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p")
  {{
    for _paddock_name in $_paddock_given; do
      eval "[ \"\${{$_paddock_name+set}}\" ]" || echo "unset $_paddock_name"
    done
    for _paddock_name in $_paddock_all; do
      case $_paddock_secret in *" $_paddock_name "*) continue ;; esac
      case $_paddock_name in _paddock_* | LINENO | OPTIND | PPID | _) continue ;; esac
      eval "_paddock_value=\${{$_paddock_name-}}"
      _paddock_quoted "$_paddock_name" "$_paddock_value"
    done
    export -p | sed -n 's/^\(declare -x\|export\) \([A-Za-z_][A-Za-z0-9_]*\)=.*/export \2/p'
    echo "umask $(umask)"
    _paddock_quoted _paddock_there "$PWD"
    _paddock_quoted _paddock_on "$(_paddock_options "$_paddock_set")"
  }} >"$_paddock_folder/new" 2>/dev/null && _paddock_replace
  exit $_paddock_code
}}
{GO}
"""
"""A POSIX shell keeps variables, options, the umask and the directory."""
