"""A container for which the engine sets up no network, and so no /etc/hosts."""

from __future__ import annotations

import os

from .files import write_all
from .light import suppress

INTERFACES = "/sys/class/net"
HOSTS = "/etc/hosts"
IFF_UP = 1


def begin(hosts: str) -> str | None:
    """Write `hosts` to /etc/hosts, as root. Return why the container cannot be used: None if its
    loopback is up and no other interface is.
    """
    try:
        up = sorted(filter(is_up, os.listdir(INTERFACES)))
        if up != ["lo"]:
            return "its interfaces that are up: " + (", ".join(up) or "none")
        with suppress(OSError):  # a mounted file is overwritten
            os.unlink(HOSTS)
        fd = os.open(HOSTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        try:
            write_all(fd, hosts.encode())
        finally:
            os.close(fd)
    except OSError as error:
        return str(error)
    return None


def is_up(interface: str) -> bool:
    with suppress(NotADirectoryError), open(f"{INTERFACES}/{interface}/flags") as file:
        return bool(int(file.read(), 16) & IFF_UP)
    return False  # a file of the kernel's beside the interfaces
