"""What a local sandbox under Landlock refuses, and what works there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, IsolationUnavailable, LocalBackend, SandboxLost
from paddock.backends import lease
from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.inside import landlock
from paddock.backends.isolation import plan
from paddock.sandbox import Capability
from paddock.testing.conformance.watch import make_passable
from tests.e2e.processes import parent_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from paddock.sandbox import Sandbox
    from tests.conftest import Require

PROBE = r"""
import json, os, socket, sys
targets = json.load(sys.stdin)
found = []
def attempt(name, action):
    try:
        action()
        found.append(name)
    except OSError:
        pass
def connect(kind, address):
    return lambda: socket.socket(socket.AF_UNIX, kind).connect(address)
def datagram():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.connect(targets["socket"])
secret = targets["secret"]
attempt("read", lambda: open(secret).read())
attempt("write", lambda: open(secret, "a"))
attempt("empty", lambda: os.truncate(secret, 0))
attempt("link", lambda: os.link(secret, "linked"))
attempt("rename", lambda: os.rename(secret, "renamed"))
attempt("remove", lambda: os.unlink(secret))
attempt("list", lambda: os.listdir(os.path.dirname(secret)))
attempt("through /proc/self/root", lambda: open("/proc/self/root" + secret).read())
os.symlink(secret, "escape")
attempt("by link", lambda: open("escape").read())
attempt("records", lambda: os.listdir(targets["records"]))
attempt("other sandboxes", lambda: os.listdir(targets["other"]))
attempt("/root", lambda: os.listdir("/root"))
attempt("/home", lambda: os.listdir("/home"))
attempt("/tmp", lambda: os.listdir("/tmp"))
attempt("write /tmp", lambda: open("/tmp/paddock-landlock-test", "w"))
attempt("/dev/shm", lambda: os.listdir("/dev/shm"))
attempt("a terminal", lambda: os.close(os.open(targets["terminal"], os.O_RDWR | os.O_NOCTTY)))
attempt("kill", lambda: os.kill(targets["pid"], 0))
for process in "warden", "fork server":
    attempt("kill the " + process, lambda: os.kill(targets[process], 0))
for name in "environ", "mem", "maps", "fd", "cwd":
    attempt(name, lambda: open("/proc/%d/%s" % (targets["pid"], name), "rb").read(1))
    for process in "warden", "fork server":
        path = "/proc/%d/%s" % (targets[process], name)
        attempt(name + " of the " + process, lambda: open(path, "rb").read(1))
attempt("unix socket", connect(socket.SOCK_STREAM, targets["socket"]))
attempt("abstract socket", connect(socket.SOCK_STREAM, targets["abstract"]))
attempt("datagrams", datagram)
attempt("set-uid", lambda: os.close(os.open("s", os.O_CREAT | os.O_WRONLY, 0o4755)))
attempt("/etc/shadow", lambda: open("/etc/shadow").read())
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def _own_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Require
) -> None:
    require("landlock", landlock.abi() >= landlock.SCOPE_ABI, "it cannot scope signals here")
    (tmp_path / "tmp").mkdir()
    make_passable(tmp_path / "tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with LocalBackend(isolation="landlock").sandbox() as sandbox:
        yield sandbox


@contextlib.contextmanager
def _sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """A process outside of the sandbox, killed at the end."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _terminal() -> Iterator[str]:
    """A terminal of the host's user, by its path."""
    ours, theirs = os.openpty()
    try:
        yield os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def _runs(command: str) -> bool:
    return subprocess.run(["pgrep", "-f", command], check=False).returncode == 0


async def test_every_way_out_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    secret.chmod(0o666)
    abstract = f"\0paddock-test-{secrets.token_hex(4)}"
    async with LocalBackend(isolation="landlock").sandbox() as other:
        with (
            socket.socket(socket.AF_UNIX) as hidden,
            socket.socket(socket.AF_UNIX) as named,
            _sleeping() as outside,
            _terminal() as terminal,
        ):
            hidden.bind(abstract)
            named.bind(str(tmp_path / "s"))
            (tmp_path / "s").chmod(0o777)
            for server in (hidden, named):
                server.listen()
            targets = {
                "secret": str(secret),
                "records": str(lease.base_directory()),
                "other": str(other.working_dir),
                "pid": outside.pid,
                "warden": sandbox._process.pid,  # type: ignore[attr-defined]
                "fork server": parent_of(sandbox._process.pid),  # type: ignore[attr-defined]
                "socket": str(tmp_path / "s"),
                "abstract": abstract,
                "terminal": terminal,
            }
            command = ["python3", "-c", PROBE]
            result = await sandbox.exec(command, stdin=json.dumps(targets), check=True)
    assert json.loads(result.stdout) == []
    assert secret.read_text() == "canary"


async def test_it_says_what_it_is(sandbox: Sandbox) -> None:
    assert Capability.FILE_ISOLATION in sandbox.capabilities
    assert not sandbox.capabilities & {
        Capability.ISOLATION,
        Capability.NETWORK_NONE,
        Capability.NETWORK_ALLOWLIST,
    }


async def test_everyday_programs_work(sandbox: Sandbox) -> None:
    for command in (
        "python3 -c 'import tempfile; tempfile.TemporaryFile().write(b\"x\")'",
        "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x",
        "python3 -m venv env && env/bin/python -c 'import sys; print(sys.prefix)'",
        "cat <(echo substituted) > out || true; echo text > file && sort file > sorted && rm file",
        "mktemp -d && head -c 10 /dev/urandom > /dev/null",
    ):
        await sandbox.exec(["bash", "-c", command], timeout=60, check=True)


async def test_temporary_files_go_with_the_sandbox(tmp_path: Path) -> None:
    async with LocalBackend(isolation="landlock").sandbox() as sandbox:
        path = (await sandbox.exec("mktemp", check=True)).stdout.strip()
        assert path.startswith(str(tmp_path / "tmp"))
    assert list(lease.base_directory().iterdir()) == []


async def test_a_command_that_kills_its_guest_leaves_nothing_behind() -> None:
    async with LocalBackend(isolation="landlock").sandbox() as sandbox:
        warden = sandbox._process  # type: ignore[attr-defined]
        attack = "setsid sleep 984211 & kill -9 $(awk '/^PPid/ {print $2}' /proc/$PPID/status)"
        with pytest.raises(SandboxLost):
            await sandbox.exec(f"{attack}; sleep 60", timeout=60)
        await warden.wait()
        assert not _runs("sleep 984211")


async def test_a_stopped_guest_is_ended_with_all_that_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GuestClient.__init__, "__kwdefaults__", {"kill_timeout": 1.0})
    stop = "kill -STOP $(awk '/^PPid/ {print $2}' /proc/$PPID/status)"
    async with LocalBackend(isolation="landlock").sandbox() as sandbox:
        with pytest.raises(SandboxLost):
            await sandbox.exec(f"setsid sleep 984212 & {stop}; sleep 60", timeout=1)
    assert not _runs("sleep 984212")


async def test_before_abi_3_no_file_is_emptied_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TRUNCATE_ABI", 99)
    program = """
import os
open("file", "w").write("text")
for attempt in (lambda: os.truncate("file", 0), lambda: os.open("file", os.O_TRUNC)):
    try:
        attempt()
    except PermissionError:
        print("refused")
open("file", "r").read() == "text" and print("kept")
with open("file", "r+") as file:
    file.truncate(1)
open("file", "w").close()
print(os.path.getsize("file"))
"""
    async with LocalBackend(isolation="landlock").sandbox() as sandbox:
        result = await sandbox.exec(["python3", "-c", program], check=True)
    assert result.stdout.split() == ["refused", "refused", "kept", "0"]


async def test_root_works_as_the_owner_of_a_directory_and_in_none_of_its_own(
    tmp_path: Path, require: Require
) -> None:
    require("root", os.getuid() == 0, "an ordinary user works as itself")
    folder = tmp_path / "work"
    folder.mkdir(mode=0o700)
    backend = LocalBackend(isolation="landlock", working_dir=str(folder))
    with pytest.raises(IsolationUnavailable, match="is root's"):
        await backend.create()
    os.chown(folder, 1234, 1234)
    async with backend.sandbox() as sandbox:
        await sandbox.exec("echo text > file", check=True)
    assert (folder / "file").stat().st_uid == 1234


async def test_root_needs_a_temporary_directory_that_others_can_pass(
    tmp_path: Path, require: Require
) -> None:
    require("root", os.getuid() == 0, "an ordinary user works as itself")
    (tmp_path / "tmp").chmod(0o700)
    with pytest.raises(ConfigError, match=r"chmod o\+x"):
        await LocalBackend(isolation="landlock").create()
    assert list(lease.base_directory().iterdir()) == []
