"""A fenced command that runs whatever it likes still changes nothing, as in a read-only profile.

The restricted shell's list of programs plays no part here: the commands are those of somebody
who has got around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import FenceUnavailable
from paddock.sandbox import Fence
from tests.hostile.conftest import WITH_GUEST, WITHOUT_ISOLATION

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

EVERYWHERE = [*WITH_GUEST, *WITHOUT_ISOLATION]
ATTACKS = r"""
import ctypes, os, resource, signal, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
reader = os.open("kept", os.O_RDONLY)
folder = os.open(".", os.O_RDONLY)


def call(number, *arguments):
    made = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments))
    if made < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def libc_call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def flags():
    import fcntl
    fcntl.ioctl(reader, 0x40086602, struct.pack("l", 0x40))  # FS_IOC_SETFLAGS


def owned_signal():
    import fcntl
    fcntl.fcntl(reader, fcntl.F_SETOWN, os.getppid())


def datagram():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


ON_X86 = os.uname().machine == "x86_64"
ATTEMPTS = {
    "open to write": lambda: open("kept", "w"),
    "open to append": lambda: open("kept", "a"),
    "create": lambda: open("new", "x"),
    "create by dirfd": lambda: os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=folder),
    "create without a name": lambda: os.open(".", os.O_TMPFILE | os.O_WRONLY),
    "create in /tmp": lambda: open("/tmp/new", "x"),
    "create in /dev/shm": lambda: open("/dev/shm/new", "x"),
    "reopen": lambda: os.open("/proc/self/fd/%d" % reader, os.O_WRONLY),
    "delete": lambda: os.unlink("kept"),
    "delete a directory": lambda: os.rmdir("folder"),
    "rename": lambda: os.rename("kept", "other"),
    "move in": lambda: os.rename(made, "moved"),
    "move out": lambda: os.rename("kept", os.environ["TMPDIR"] + "/kept"),
    "link": lambda: os.link("kept", "linked"),
    "link out": lambda: os.link("kept", os.environ["TMPDIR"] + "/linked"),
    "symlink": lambda: os.symlink("kept", "soft"),
    "mkdir": lambda: os.mkdir("made"),
    "mkfifo": lambda: os.mkfifo("pipe"),
    "truncate": lambda: os.truncate("kept", 0),
    "ftruncate": lambda: os.ftruncate(reader, 0),
    "chmod": lambda: os.chmod("kept", 0o777),
    "fchmod": lambda: os.fchmod(reader, 0o777),
    "fchmodat2": lambda: libc_call("syscall", 452, folder, b"kept", 0o777, 0),
    "chown": lambda: os.chown("kept", os.getuid(), os.getgid()),
    "fchown": lambda: os.fchown(reader, os.getuid(), os.getgid()),
    "lchown": lambda: os.lchown("kept", os.getuid(), os.getgid()),
    "utime": lambda: os.utime("kept", (1, 1)),
    "futimens": lambda: os.utime(reader, (1, 1)),
    "setxattr": lambda: os.setxattr("kept", "user.x", b"1"),
    "fsetxattr": lambda: os.setxattr(reader, "user.x", b"1"),
    "flags": flags,
    "TCP": lambda: socket.socket(),
    "TCP over IPv6": lambda: socket.socket(socket.AF_INET6),
    "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "datagrams of a pair": datagram,
    "kill the supervisor": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "stop the supervisor": lambda: os.kill(os.getppid(), signal.SIGSTOP),
    "kill the neighbour": lambda: os.kill(NEIGHBOUR, signal.SIGKILL),
    "a process's descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(NEIGHBOUR), 9),
    "signals of a file": owned_signal,
    "limits": lambda: resource.prlimit(NEIGHBOUR, resource.RLIMIT_NOFILE, (3, 3)),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, NEIGHBOUR, 19),
    "memory": lambda: open("/proc/%d/mem" % NEIGHBOUR, "r+b"),
    "descriptors": lambda: os.readlink("/proc/%d/fd/0" % NEIGHBOUR),
    "ptrace": lambda: libc_call("ptrace", 16, NEIGHBOUR, 0, 0),
    "namespace": lambda: libc_call("unshare", 0x10000000),
    "mount": lambda: libc_call("mount", b"none", b"folder", b"tmpfs", 0, None),
    "shared memory": lambda: call(29 if ON_X86 else 194, 1234, 4096, 0o1666),
    "message queue": lambda: libc_call("syscall", 240 if ON_X86 else 180, b"q", 0o102, 0o600, None),
    "io_uring": lambda: libc_call("syscall", 425, 8, ctypes.create_string_buffer(256)),
    "x32": lambda: call(0x40000000 | 39) if ON_X86 else os.unlink("/proc/no"),
}
NEIGHBOUR = int(sys.argv[1])
made = os.environ["TMPDIR"] + "/made"
open(made, "x").close()
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
    except OSError as error:
        pass
    else:
        print(name)
print("all tried")
"""
PREPARED = "echo data > kept; mkdir folder; sleep 300 </dev/null >/dev/null 2>&1 & echo $!"
LOOK = "find . -printf '%p %m %u %s %T@ %l\n' | sort; cat kept"


async def _neighbour(sandbox: Sandbox) -> int:
    """A process beside the fenced command, of the same user."""
    return int((await sandbox.exec(PREPARED, check=True)).stdout)


@pytest.mark.parametrize("backend", EVERYWHERE, indirect=True)
async def test_a_fenced_command_changes_nothing_whatever_it_tries(sandbox: Sandbox) -> None:
    neighbour = await _neighbour(sandbox)
    before = (await sandbox.exec(LOOK)).stdout
    argv = ["python3", "-c", ATTACKS, str(neighbour)]
    result = await sandbox.exec(argv, fence=Fence(), timeout=60)
    assert (result.stdout, result.stderr) == ("all tried\n", "")
    assert (await sandbox.exec(LOOK)).stdout == before
    assert (await sandbox.exec(f"kill -0 {neighbour}")).ok
    assert (await sandbox.exec("ls -d /tmp/new /dev/shm/new")).stdout == ""


@pytest.mark.parametrize("backend", ["docker", "local-bubblewrap"], indirect=True)
async def test_without_the_fence_most_of_that_works(sandbox: Sandbox) -> None:
    neighbour = await _neighbour(sandbox)
    script = ATTACKS
    for deadly in ("kill the supervisor", "stop the supervisor"):
        script = script.replace(f'"{deadly}": lambda:', f'"{deadly}": lambda: 0 if True else')
    argv = [
        "sh",
        "-c",
        'TMPDIR=$(mktemp -d) exec python3 -c "$1" "$2"',
        "sh",
        script,
        str(neighbour),
    ]
    done = (await sandbox.exec(argv, timeout=60)).stdout.splitlines()
    assert {"create", "delete", "fchmod", "futimens", "TCP", "kill the neighbour"} <= set(done)


@pytest.mark.parametrize("backend", EVERYWHERE, indirect=True)
async def test_its_temporary_directory_works_and_is_gone_afterwards(sandbox: Sandbox) -> None:
    command = (
        "cd $TMPDIR && mkdir -p a/b && echo x > a/f && mv a/f a/b/f && ln a/b/f g && cat g && "
        "mkdir -m 0 locked && seq 200000 | sort -S 64k -R | wc -l && pwd"
    )
    result = await sandbox.exec(command, fence=Fence(), timeout=60)
    assert result.stderr == ""
    shown, count, folder = result.stdout.split()
    assert (shown, count) == ("x", "200000")
    assert not await sandbox.fs.exists(folder)
    late = await sandbox.exec(
        "(until [ -e go ]; do sleep 0.05; done) & echo $TMPDIR; echo y > $TMPDIR/y",
        fence=Fence(),
        timeout=60,
    )
    assert late.background
    folder = late.stdout.strip()
    assert await sandbox.fs.exists(folder)  # what runs on may use it
    await sandbox.fs.write_text("go", "")
    gone = f"until ! [ -e {folder} ]; do sleep 0.05; done"
    assert (await sandbox.exec(gone, timeout=60)).ok


@pytest.mark.parametrize("backend", EVERYWHERE, indirect=True)
async def test_what_only_reads_works_inside_the_fence(sandbox: Sandbox) -> None:
    await sandbox.exec("echo needle > a; git init -q .; git add a", check=True)
    commit = "git -c user.name=a -c user.email=a commit -qm first"
    await sandbox.exec(commit, check=True)
    for command, shown in {
        "ls": "a\n",
        "grep -rl needle a": "a\n",
        "git log --format=%s": "first\n",
        "git status --short": "",
        'python3 -c \'print(open("a").read(), end="")\' 2>/dev/null': "needle\n",
        "find . -name a": "./a\n",
        "echo gone >/dev/null; sort a | uniq -c | tr -d ' '": "1needle\n",
        "sleep 60 & kill $!; wait; echo ended": "ended\n",
        "false": "",
        "nonsense": "",
    }.items():
        result = await sandbox.exec(command, fence=Fence(), timeout=60)
        assert result.stdout == shown, command
    assert (await sandbox.exec(["nonsense"], fence=Fence())).exit_code == 127


@pytest.mark.parametrize("backend", ["docker", "local-none"], indirect=True)
async def test_with_the_network_there_are_tcp_and_udp_and_nothing_else(sandbox: Sandbox) -> None:
    script = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname()).close()\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()\n"
        "print('reached')\n"
        "socket.socket(socket.AF_UNIX)\n"
    )
    fence = Fence(network=True)
    result = await sandbox.exec(["python3", "-c", script], fence=fence, timeout=60)
    assert result.stdout == "reached\n"
    assert "PermissionError" in result.stderr
    assert not (await sandbox.exec("echo x > file", fence=fence)).ok


@pytest.mark.parametrize("backend", ["docker-no-python"], indirect=True)
async def test_where_it_cannot_be_fenced_a_command_does_not_run(sandbox: Sandbox) -> None:
    with pytest.raises(FenceUnavailable, match="no Python"):
        await sandbox.exec("touch made", fence=Fence())
    assert not await sandbox.fs.exists("made")


@pytest.mark.parametrize("backend", WITH_GUEST, indirect=True)
async def test_without_a_place_for_temporary_files_it_does_not_run(sandbox: Sandbox) -> None:
    with pytest.raises(FenceUnavailable, match="no temporary directory can be made in /proc"):
        await sandbox.exec("touch made", fence=Fence(), env={"TMPDIR": "/proc"})
    assert not await sandbox.fs.exists("made")
    assert (await sandbox.exec("echo alive", fence=Fence())).stdout == "alive\n"


@pytest.mark.parametrize("backend", ["docker", "local-bubblewrap"], indirect=True)
async def test_a_fenced_command_that_outlasts_its_time_is_killed_and_cleaned_up(
    sandbox: Sandbox,
) -> None:
    with pytest.raises(TimeoutError):
        await sandbox.exec(
            "i=0; while [ $i -lt 500 ]; do mkdir -p $TMPDIR/$i; i=$((i+1)); done; sleep 300",
            fence=Fence(),
            timeout=3,
        )
    assert (await sandbox.exec("ls -d /tmp/paddock-* 2>/dev/null")).stdout == ""
