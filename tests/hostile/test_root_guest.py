"""A guest that is root, to start commands as the image's user, gives that user nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock import DockerBackend, Image, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine
    from paddock.sandbox import Sandbox

NOBODY = pytest.mark.parametrize("backend", ["docker-nobody"], indirect=True)
STATUS = """
for name in CapInh CapPrm CapEff CapAmb CapBnd NoNewPrivs Seccomp Uid Gid Groups
do grep "^$name:" /proc/self/status
done
"""
AS_AN_ENGINE_HAS_IT = """\
CapInh: 0000000000000000
CapPrm: 0000000000000000
CapEff: 0000000000000000
CapAmb: 0000000000000000
CapBnd: 00000000000000fb
NoNewPrivs: 1
Seccomp: 2
Uid: 65534 65534 65534 65534
Gid: 65534 65534 65534 65534
Groups: 65534
"""
ATTACK = r"""
import ctypes, glob, json, os, resource, signal

libc = ctypes.CDLL(None, use_errno=True)
won = []

def attempt(name, action):
    try:
        action()
    except (OSError, ValueError):
        return
    won.append(name)

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

guest = 1
for path in ("mem", "environ", "maps", "fd", "fd/0", "fd/3", "cwd", "root", "task/1/fd"):
    attempt(path, lambda: os.listdir(f"/proc/{guest}/{path}"))
    attempt(path, lambda: open(f"/proc/{guest}/{path}", "rb").close())
    attempt(path, lambda: os.readlink(f"/proc/{guest}/{path}"))
for number in range(3, 64):
    attempt(f"fd {number}", lambda: os.open(f"/proc/{guest}/fd/{number}", os.O_RDWR))
for name in ("oom_score_adj", "clear_refs", "coredump_filter", "comm"):
    attempt(name, lambda: open(f"/proc/{guest}/{name}", "w").close())
for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 0):
    attempt(f"signal {number}", lambda: os.kill(guest, number))
attempt("ptrace", lambda: checked(libc.ptrace(16, guest, 0, 0)))
attempt("prlimit", lambda: resource.prlimit(guest, resource.RLIMIT_NOFILE, (8, 8)))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, guest, 19))
attempt("affinity", lambda: os.sched_setaffinity(guest, {0}))
for change in (os.setuid, os.setgid, os.seteuid, os.setegid):
    attempt(change.__name__, lambda: change(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("chown", lambda: os.chown(".", 0, 0))
for spills in ("/tmp/.paddock", *glob.glob("/tmp/.paddock*")):
    attempt("list spills", lambda: os.listdir(spills))
    attempt("write spills", lambda: open(spills + "/x", "w").close())
    attempt("move spills", lambda: os.rename(spills, "/tmp/taken"))
    attempt("mode of spills", lambda: os.chmod(spills, 0o777))
print(json.dumps(won))
"""


@NOBODY
async def test_a_command_has_the_rights_that_an_engine_would_have_given_it(
    sandbox: Sandbox,
) -> None:
    found = (await sandbox.exec(STATUS, check=True)).stdout
    assert "\n".join(" ".join(line.split()) for line in found.splitlines()) + "\n" == (
        AS_AN_ENGINE_HAS_IT
    )


@NOBODY
async def test_the_users_processes_cannot_reach_the_guest_nor_its_files(sandbox: Sandbox) -> None:
    spilled = await sandbox.exec("seq 300000")
    secret = await sandbox.exec("seq 300000", user="root")
    assert spilled.out.spill is not None
    assert secret.out.spill is not None
    assert json.loads((await sandbox.exec(["python3", "-c", ATTACK], check=True)).stdout) == []
    assert (await sandbox.fs.read_bytes(spilled.out.spill)).endswith(b"\n300000\n")
    assert not (await sandbox.exec(f"echo forged >> {spilled.out.spill}")).ok
    assert not (await sandbox.exec(f"cat {secret.out.spill}")).ok
    assert (await sandbox.exec("echo alive")).stdout == "alive\n"


@NOBODY
async def test_calls_about_files_have_the_users_rights_alone(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """A link that a command made leads the root that handles files nowhere."""
    await sandbox.exec("ln -s /etc/passwd link; ln -s /root below; ln -s /etc etc", check=True)
    await sandbox.exec("install -m 600 /dev/null /root/secret; echo x > /root/secret", user="root")
    (tmp_path / "passwd").write_text("root::0:0::/:/bin/sh\n")
    for attempt in (
        sandbox.fs.write_text("link", "x"),
        sandbox.fs.write_bytes("link", bytes(2 << 20)),
        sandbox.fs.write_text("etc/new", "x"),
        sandbox.fs.read_bytes("below/secret"),
        sandbox.fs.read_bytes("/etc/shadow"),
        sandbox.fs.stat("below/secret"),
        sandbox.fs.mkdir("etc/made"),
        sandbox.fs.remove("etc/hostname"),
        sandbox.fs.remove("etc/ssl", recursive=True),
        sandbox.fs.move("link", "etc/moved"),
        sandbox.fs.list("below"),
        sandbox.fs.upload(tmp_path, "/etc"),
        sandbox.fs.download("below", tmp_path / "down"),
    ):
        with pytest.raises(PermissionError):
            await attempt
    assert (await sandbox.exec("head -c 4 /etc/passwd")).stdout == "root"


REPLACEABLE = (
    Image.from_registry("paddock:base")
    .run_commands(
        "useradd -m dev && mkdir ~dev/bin && cp /usr/bin/python3 ~dev/bin/ && chown -R dev ~dev"
    )
    .env({"PATH": "/home/dev/bin:/usr/local/bin:/usr/bin:/bin"})
    .user("dev")
)
"""The Python that a guest runs on belongs to the image's user."""
GUESTS_USER = "grep ^Uid: /proc/1/status"


async def test_a_guest_is_not_root_on_a_python_that_the_user_can_replace(base_image: str) -> None:
    async with DockerBackend(image=REPLACEABLE, network="none").sandbox() as sandbox:
        assert (await sandbox.exec(GUESTS_USER)).stdout.split()[1:] == ["1000"] * 4
        assert Capability.USER not in sandbox.capabilities
        with pytest.raises(Unsupported, match="can replace the image's Python"):
            await sandbox.exec("true", user="root")
        (fork,) = await sandbox.fork()
        async with fork:  # its Python may be the work of a command
            assert (await fork.exec(GUESTS_USER)).stdout.split()[1:] == ["1000"] * 4
            assert Capability.USER not in fork.capabilities


async def test_what_root_has_left_in_a_snapshot_is_not_run_as_root_for_another_user(
    base_image: str, docker_engine: Engine
) -> None:
    recipe = DockerBackend(network="none")
    async with recipe.sandbox() as sandbox:
        name = f"paddock-test-changed:{sandbox.id}"
        image = await sandbox.snapshot(name)
    try:
        async with replace(recipe, image=image, user="nobody").sandbox() as changed:
            assert (await changed.exec(GUESTS_USER)).stdout.split()[1:] == ["65534"] * 4
    finally:
        await docker_engine.call("removing", docker_engine.client.remove_image, name)
