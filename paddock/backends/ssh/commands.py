"""Command lines: of `ssh` here, and of bubblewrap on a host that this process cannot look at."""

from __future__ import annotations

import base64
import inspect
import json
import re
from typing import TYPE_CHECKING, Any

from paddock.backends.isolation import bubblewrap, etc
from paddock.backends.ssh import keeper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FILES", "HOST", "WORKSPACE", "bwrap", "ssh"]

HOST = re.compile(r"(ssh://)?[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]*")
"""What can be taken for neither an option nor a word of a shell."""
OPTIONS = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "VerifyHostKeyDNS=no"),
    *("NoHostAuthenticationForLocalhost=no", "ForwardAgent=no", "ForwardX11=no"),
    *("ClearAllForwardings=yes", "PermitLocalCommand=no", "RemoteCommand=none", "ControlPath=none"),
    *("ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4", "LogLevel=ERROR"),
)
"""A host whose key is not known is not talked to, whatever the user's configuration says."""
WORKSPACE = "/workspace"
FILES = {f"etc/{name}": text for name, text in (etc.IDENTITY | {"hosts": etc.HOSTS}).items()}
"""What a sandbox has in its directory to be shown as files of the system."""


def ssh(host: str, config: str | None, asked: Mapping[str, Any]) -> Sequence[str]:
    """Have a Python on `host` run the keeper's module, which does what is `asked`."""
    options = [f"-o{option}" for option in OPTIONS]
    options += [f"-F{config}"] if config else []
    text = f"{inspect.getsource(keeper)}\nmain(json.loads({json.dumps(asked)!r}))\n"
    # No login shell finds anything in it to make something else of.
    encoded = base64.b64encode(text.encode()).decode()
    program = f"import base64;exec(base64.b64decode('{encoded}'))"
    return ["ssh", "-T", *options, "--", host, f'exec python3 -I -S -B -X utf8 -c "{program}"']


def bwrap(folder: str, working_dir: str | None, *, network: bool) -> Sequence[str]:
    """Fence the command that follows: it sees the sandbox's `folder`, the system's directories, and
    of the host's others `working_dir` alone, if one is given."""
    names = (*etc.SHOWN, *etc.RELEASE, *(etc.SHOWN_WITH_NETWORK if network else ()))
    system = (*bubblewrap.SYSTEM, *bubblewrap.MERGED, *(f"/etc/{name}" for name in names))
    binds = [("--ro-bind-try", path, path) for path in system]
    binds += [("--ro-bind", f"{folder}/{name}", f"/{name}") for name in FILES]
    binds += [("--bind", f"{folder}/output", bubblewrap.OUTPUT)]
    binds += [("--bind", f"{folder}/home", bubblewrap.HOME)]
    binds += [("--bind", working_dir or f"{folder}/work", working_dir or WORKSPACE)]
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--new-session"),
        *("--die-with-parent", "--as-pid-1", "--hostname", bubblewrap.HOSTNAME),
        *("--uid", str(bubblewrap.UID), "--gid", str(bubblewrap.UID)),
        *(["--share-net"] if network else []),
        *("--perms", "755", "--dir", "/etc", "--perms", "755", "--dir", "/run"),
        *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"),
        *(word for bind in binds for word in bind),
        *("--setenv", "HOME", bubblewrap.HOME, "--setenv", "PATH", bubblewrap.STANDARD_PATH),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"),
    ]
