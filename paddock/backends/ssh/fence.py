"""bubblewrap's command line on a host that this process cannot look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.backends.isolation import bubblewrap, etc

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FILES", "WORKSPACE", "bwrap"]

WORKSPACE = "/workspace"
FILES = {f"etc/{name}": text for name, text in (etc.IDENTITY | {"hosts": etc.HOSTS}).items()}
"""What a sandbox has in its directory to be shown as files of the system."""


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
