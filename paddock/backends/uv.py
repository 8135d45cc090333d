"""Setup commands that see to a version of uv. Both end well at once where it is there."""

from __future__ import annotations

import re

from paddock.errors import ConfigError

__all__ = ["install_command", "require_command"]

VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]*")
_LOOK = """\
# see to uv VERSION
has_uv() {
    case "$(uv --version 2>/dev/null)" in 'uv VERSION' | 'uv VERSION '*) ;; *) false ;; esac
}
has_uv && exit 0
"""

# The first of these directories that is on PATH and can be written: later commands find it there.
_INSTALL = """\
for dir in /usr/local/bin "$HOME/.local/bin"; do
    case ":$PATH:" in *":$dir:"*) mkdir -p "$dir" 2>/dev/null && [ -w "$dir" ] && break ;; esac
done
url=https://astral.sh/uv/VERSION/install.sh
{ curl -LsSf --max-time 60 "$url" || wget -q -T 60 -O - "$url"; } |
    UV_INSTALL_DIR="$dir" UV_NO_MODIFY_PATH=1 sh
has_uv || python3 -m pip install --quiet --retries 1 uv==VERSION
has_uv && exit 0
echo 'uv VERSION could not be installed: that takes a network on which astral.sh or an index' >&2
echo 'of Python packages is reached. Or put it into the image: then nothing is fetched.' >&2
exit 1"""

_REQUIRE = """\
echo 'uv VERSION is not among the programs of this machine, which are what a local sandbox has.' >&2
echo 'Install it (https://docs.astral.sh/uv), or use a backend that makes containers.' >&2
exit 1"""


def install_command(version: str) -> str:
    """Install that version, by uv's installer or by pip, unless it is there.

    Raises `ConfigError` for what is no version.
    """
    _check(version)
    return (_LOOK + _INSTALL).replace("VERSION", version)


def require_command(version: str) -> str:
    """Fail, and say what to do, unless that version is there. Raises `ConfigError`."""
    _check(version)
    return (_LOOK + _REQUIRE).replace("VERSION", version)


def _check(version: str) -> None:
    """It becomes a part of a shell command and of an address."""
    if not VERSION.fullmatch(version):
        raise ConfigError(f"uv_version: {version!r} is no version; give one such as 0.9.5")
