"""What an isolated local sandbox refuses: the cells of the probe table, each tried for real.

Rows C29 to C31 of the reliability document; probes open, and never write, what is the host's.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import LocalBackend, Unsupported
from paddock.backends import local
from paddock.backends.isolation import seccomp
from paddock.sandbox import Capability, Resources
from tests.e2e.processes import descendants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from paddock.backends.isolation.levels import Isolation
    from paddock.sandbox import Sandbox

PROBE = r"""
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
results = {}

def attempt(name, action):
    try:
        action()
        results[name] = "allowed"
    except OSError as error:
        results[name] = os.strerror(error.errno) if error.errno else str(error)

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def opened(path, flags):
    return lambda: os.close(os.open(path, flags))

def connected(family, kind, address):
    def action():
        with socket.socket(family, kind) as connection:
            connection.settimeout(2)
            connection.connect(address)
    return action

def made(family, kind, protocol=0):
    return lambda: socket.socket(family, kind, protocol).close()

targets = json.load(sys.stdin)
for name, path in targets["files"].items():
    attempt("read " + name, opened(path, os.O_RDONLY))
    attempt("stat " + name, lambda: os.stat(path))
    attempt("chmod " + name, lambda: os.chmod(path, 0o600))
    attempt("through /proc/self/root " + name, opened("/proc/self/root" + path, os.O_RDONLY))
os.symlink(targets["files"]["secret"], "escape")
attempt("read by symlink", opened("escape", os.O_RDONLY))
attempt("read by ..", opened("../" * 20 + targets["files"]["secret"], os.O_RDONLY))
attempt("signal a host process", lambda: os.kill(targets["pid"], 0))
attempt("host environ", opened("/proc/%d/environ" % targets["pid"], os.O_RDONLY))
host = ("127.0.0.1", targets["port"])
attempt("tcp to the host", connected(socket.AF_INET, socket.SOCK_STREAM, host))
attempt("abstract socket", connected(socket.AF_UNIX, socket.SOCK_STREAM, targets["abstract"]))
attempt("unix socket", connected(socket.AF_UNIX, socket.SOCK_STREAM, targets["socket"]))
attempt("vsock", made(40, socket.SOCK_STREAM))
attempt("raw socket", made(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet socket", made(socket.AF_PACKET, socket.SOCK_RAW))
attempt("core_pattern", opened("/proc/sys/kernel/core_pattern", os.O_WRONLY))
attempt("sysrq", opened("/proc/sysrq-trigger", os.O_WRONLY))
attempt("write /usr", opened("/usr/x", os.O_WRONLY | os.O_CREAT))
attempt("write /etc", opened("/etc/x", os.O_WRONLY | os.O_CREAT))
attempt("write a file of /etc", opened("/etc/passwd", os.O_WRONLY))
for folder in filter(os.path.isdir, ("/etc/ssl", "/etc/alternatives", "/etc/ld.so.conf.d")):
    attempt("write " + folder, opened(folder + "/x", os.O_WRONLY | os.O_CREAT))
attempt("write /", opened("/x", os.O_WRONLY | os.O_CREAT))
attempt("write /dev", opened("/dev/x", os.O_WRONLY | os.O_CREAT))
attempt("write python", opened(os.path.realpath(sys.executable), os.O_WRONLY))
attempt("user namespace", lambda: call(272, 0x10000000))
attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, None))
attempt("io_uring", lambda: call(425, 8, ctypes.create_string_buffer(120)))
attempt("bpf", lambda: call(321, 0, None, 0))
attempt("keyctl", lambda: call(250, 0, 0))
attempt("ptrace", lambda: call(101, 0, 0, 0, 0))
attempt("userfaultfd", lambda: call(323, 0))
attempt("clone3", lambda: call(435, None, 0))
attempt("a call of the future", lambda: call(9999))
attempt("x32", lambda: call(0x40000000 | 39))
open("mine", "w").close()
attempt("chmod u+s", lambda: os.chmod("mine", 0o4755))
attempt("create u+s", lambda: os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o4755)))
attempt("setuid 0", lambda: os.setuid(0))
attempt("chmod", lambda: os.chmod("mine", 0o755))
attempt("unix pair", lambda: socket.socketpair()[0].close())
def own_loopback():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname(), 2).close()
attempt("own loopback", own_loopback)
with open("/proc/self/status") as file:
    status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
results["status"] = {k: status[k].split()[0] for k in ("CapEff", "NoNewPrivs", "Seccomp")}
results["processes"] = len([name for name in os.listdir("/proc") if name.isdigit()])
results["root"] = sorted(os.listdir("/"))
results["home"] = os.listdir(os.path.expanduser("~"))
print(json.dumps(results))
"""

ALLOWED = {"chmod", "unix pair", "own loopback"}
HOME = Path.home()


@pytest.fixture
async def fenced(require: Callable[[str, bool, str], None]) -> AsyncIterator[Sandbox]:
    found = await local.probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    async with LocalBackend(isolation="bubblewrap").sandbox() as sandbox:
        yield sandbox


async def _probed(sandbox: Sandbox, folder: Path) -> dict[str, Any]:
    secret = folder / "secret"
    secret.write_text("canary")
    abstract = f"\0paddock-test-{secrets.token_hex(4)}"
    with (
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as hidden,
        socket.socket(socket.AF_UNIX) as named,
    ):
        tcp.bind(("127.0.0.1", 0))
        hidden.bind(abstract)
        named.bind(str(folder / "s"))
        for server in (tcp, hidden, named):
            server.listen()
        targets = {
            "files": {"secret": str(secret), "home": str(HOME / ".ssh")},
            "pid": os.getpid(),
            "port": tcp.getsockname()[1],
            "abstract": abstract,
            "socket": str(folder / "s"),
        }
        result = await sandbox.exec(["python3", "-c", PROBE], stdin=json.dumps(targets), check=True)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.rows("C31")
async def test_every_way_out_is_refused(fenced: Sandbox) -> None:
    with tempfile.TemporaryDirectory(prefix="paddock-out-", dir=HOME) as folder:
        found = await _probed(fenced, Path(folder))
    status = found.pop("status")
    assert status == {"CapEff": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}
    assert found.pop("processes") < 10
    assert set(found.pop("root")) <= {
        *("bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "nix", "gnu", "proc"),
        *("root", "run", "sbin", "tmp", "usr", "workspace", "opt"),
        *("boot", "media", "mnt", "srv", "sys", "var"),
    }
    assert found.pop("home") == []
    allowed = {name for name, outcome in found.items() if outcome == "allowed"}
    assert allowed == ALLOWED
    assert len(found) > 35


async def test_without_isolation_it_is_told_that_there_is_none() -> None:
    async with LocalBackend(isolation="none").sandbox() as sandbox:
        assert Capability.ISOLATION not in sandbox.capabilities
        assert Capability.NETWORK_NONE not in sandbox.capabilities


LOOK_AROUND = r"""
set -e
. /etc/os-release && test -n "$ID"
cat /etc/shells /etc/hostname /etc/passwd /etc/mtab > /dev/null
ls -d /opt /srv /mnt /root /var/log /var/lib /run /sys/devices/system/cpu > /dev/null
kept=$(mktemp -p /var/tmp) && echo kept > "$kept" && cat "$kept"
hostname
getent hosts "$(hostname)" | awk '{print $2}'
getent passwd nobody | cut -d : -f 3
"""
SECRETIVE = "/etc/shadow /etc/gshadow /etc/sudoers /etc/machine-id /etc/ssh /etc/fstab /etc/apt"


async def test_it_looks_like_a_machine_of_its_own(fenced: Sandbox) -> None:
    found = await fenced.exec(LOOK_AROUND, check=True)
    assert found.stdout.split() == ["kept", "sandbox", "sandbox", "65534"]
    secretive = await fenced.exec(f"ls -d {SECRETIVE} /opt/* /root/* /var/log/* 2>/dev/null")
    assert secretive.stdout == ""
    assert (await fenced.exec("cat /etc/environment")).stdout == ""
    assert not (await fenced.exec("touch /opt/x || touch /etc/x || touch /var/x")).ok


async def test_shared_memory_is_as_large_as_was_asked_for_and_may_be_full(
    fenced: Sandbox,
) -> None:
    look = "df -k --output=size /dev/shm | tail -1"
    assert (await fenced.exec(look)).stdout.split() == [str(1024**2)]
    wanted = Resources(shm_size=100 * 1024**2)
    async with LocalBackend(resources=wanted).sandbox() as sandbox:
        assert (await sandbox.exec(look)).stdout.split() == [str(100 * 1024)]
        full = await sandbox.exec("head -c 200M /dev/zero > /dev/shm/x")
        assert "No space left" in full.stderr
        assert (await sandbox.exec("rm /dev/shm/x; echo ok > /dev/shm/y && cat /dev/shm/y")).ok
    with pytest.raises(Unsupported, match="isolation='bubblewrap'"):
        await LocalBackend(isolation="none", resources=wanted).create()


async def test_a_working_directory_that_is_given_is_used_in_place(
    fenced: Sandbox, tmp_path: Path
) -> None:
    """Root's, below a home that is closed to others, in this test when root runs it."""
    with tempfile.TemporaryDirectory(prefix="paddock-in-", dir=HOME) as name:
        folder = Path(name) / "made"
        backend = LocalBackend(isolation="bubblewrap", working_dir=str(folder))
        async with backend.sandbox() as sandbox:
            assert str(sandbox.working_dir) == str(folder)
            (folder / "host").write_text("from outside")
            assert await sandbox.fs.read_text("host") == "from outside"
            await sandbox.exec("echo in >> host; mkdir d; echo new > d/f", check=True)
            assert not (await sandbox.exec(["ls", str(Path(name).parent / ".ssh")])).ok
        assert (folder / "host").read_text() == "from outsidein\n"
        for path in (folder, folder / "host", folder / "d", folder / "d/f"):
            assert path.stat().st_uid == os.getuid()


async def test_network_full_is_had_only_when_asked_for(fenced: Sandbox) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        connect = f"import socket; socket.create_connection({address!r}, 2)"
        async with LocalBackend(isolation="bubblewrap", network="full").sandbox() as open_one:
            assert (await open_one.exec(["python3", "-c", connect])).ok
        assert not (await fenced.exec(["python3", "-c", connect])).ok


@pytest.mark.rows("C30")
@pytest.mark.parametrize("level", ["none", "bubblewrap"])
async def test_no_process_of_a_sandbox_has_the_hosts_files_or_variables(
    level: Isolation, require: Callable[[str, object, str], None], tmp_path: Path
) -> None:
    if level == "bubblewrap":
        found = await local.probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    canary = tmp_path / "canary"
    before = descendants(os.getpid())
    with pytest.MonkeyPatch.context() as patch, _left_open(canary):
        patch.setenv("CANARY_OF_THE_HOST", "secret")
        async with LocalBackend(isolation=level).sandbox() as sandbox:
            await sandbox.exec("sleep 60 &", check=True)
            processes = descendants(os.getpid()) - before
            assert len(processes) >= 3  # the guest, a supervisor and the command
            opened = {link for process in processes for link in _opened(process)}
            variables = b"".join(_environ(process) for process in processes)
    assert opened
    assert str(canary) not in opened
    assert b"PATH=" in variables
    assert b"CANARY_OF_THE_HOST" not in variables


@contextlib.contextmanager
def _left_open(path: Path) -> Iterator[None]:
    """A file that this process has open, for its children too, as a careless library does."""
    with path.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        yield


def _opened(process: int) -> list[str]:
    return [os.readlink(path) for path in Path(f"/proc/{process}/fd").iterdir()]


def _environ(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


def test_the_filter_is_well_formed_on_every_known_machine() -> None:
    for machine in ("x86_64", "aarch64"):
        program = seccomp.filter_program(machine)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 4096  # BPF_MAXINSNS
