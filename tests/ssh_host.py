"""An sshd on loopback, with keys, a configuration and a port of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SSHD", "ssh_host"]

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
"""It has to be started by its whole path."""
CHROOT = Path("/run/sshd")
"""Root's sshd confines a part of itself there, and does not start without it."""
READY = 60.0
"""Seconds until it listens, on a machine that is very busy."""
SERVER = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
PidFile none
SetEnv SHLVL=1
"""
"""With that level, bash does not read the account's own set-up, which may take a second."""
CLIENT = """\
Host there
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking no
"""
"""What it says of unknown hosts is not to be followed."""


@contextlib.contextmanager
def ssh_host(folder: Path) -> Iterator[Path]:
    """Yield the configuration by which ``there`` is a host that ssh reaches, and knows."""
    for name in ("host_key", "key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(keygen, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"folder": folder, "port": port, "user": pwd.getpwuid(os.getuid()).pw_name}
    (folder / "sshd_config").write_text(SERVER.format(**told))
    (folder / "config").write_text(CLIENT.format(**told))
    key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
    assert SSHD is not None
    with contextlib.ExitStack() as leaving:
        if os.getuid() == 0 and not CHROOT.exists():
            CHROOT.mkdir(mode=0o755)
            leaving.callback(CHROOT.rmdir)
        log = leaving.enter_context((folder / "log").open("wb"))
        command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
        server = leaving.enter_context(subprocess.Popen(command, stderr=log))
        leaving.callback(server.terminate)
        _wait_until_it_listens(server, port, folder / "log")
        yield folder / "config"


def _wait_until_it_listens(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    wait_until(
        lambda: server.poll() is not None or _listens(port),
        within=READY,
        otherwise="sshd does not listen",
    )
    assert server.poll() is None, log.read_text()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
