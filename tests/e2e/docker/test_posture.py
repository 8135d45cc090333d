"""What a container is allowed, as whom it runs, and what is refused, on a real engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, ExecTimeout, Image, SandboxError, Unsupported
from paddock.backends.docker import DockerBackend
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.docker.containers.sandbox import DockerSandbox
    from paddock.backends.docker.engine.client import Engine
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.docker


async def _inspect(engine: Engine, sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = await engine.call(
        "inspecting", engine.client.inspect_container, sandbox.id
    )
    return found


@pytest.mark.parametrize("hardening", ["default", "strict"])
async def test_every_container_has_the_posture_that_the_benchmark_asks_for(
    engine: Engine, hardening: Any
) -> None:
    async with DockerBackend(network="none", hardening=hardening).sandbox() as sandbox:
        found = await _inspect(engine, sandbox)
        status = (await sandbox.exec("cat /proc/self/status")).stdout
        environment = (await sandbox.exec("env")).stdout
    host = found["HostConfig"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"] or ()) <= {
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
    }
    assert "no-new-privileges" in host["SecurityOpt"]
    profile = next(option for option in host["SecurityOpt"] if option.startswith("seccomp="))
    assert json.loads(profile.removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    if Capability.LIMIT_MEMORY in sandbox.capabilities:
        assert host["Memory"] == host["MemorySwap"] == 4 * 1024**3
    if Capability.LIMIT_PIDS in sandbox.capabilities:
        assert host["PidsLimit"] == 512
    assert host["LogConfig"]["Type"] == "none"
    assert host["NetworkMode"] == "none"
    assert host["IpcMode"] == "private"
    assert host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == ""
    assert not host["Binds"]
    assert not host["Mounts"] if "Mounts" in host else True
    assert not host["PublishAllPorts"]
    assert not host["PortBindings"]
    assert host["AutoRemove"]
    assert not host["Devices"]
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    if hardening == "strict":
        assert host["ReadonlyRootfs"]
        assert found["Config"]["User"] == "65534:65534"
        assert "CapEff:\t0000000000000000" in status
    assert found["Config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert "PADDOCK" not in environment


PROBE = r"""
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
results = {}
def attempt(name, action):
    try:
        action()
        results[name] = "allowed"
    except OSError as error:
        results[name] = os.strerror(error.errno)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
def opened(path):
    return lambda: os.close(os.open(path, os.O_WRONLY))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("io_uring", lambda: call(425, 8, ctypes.create_string_buffer(120)))
attempt("userfaultfd", lambda: call(323, 0))
attempt("user namespace", lambda: call(272, 0x10000000))
attempt("mount", lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, None))
attempt("bpf", lambda: call(321, 0, None, 0))
attempt("keyctl", lambda: call(250, 0, 0))
attempt("mknod", lambda: os.mknod("dev", 0o20600, os.makedev(1, 3)))
attempt("core_pattern", opened("/proc/sys/kernel/core_pattern"))
attempt("sysrq", opened("/proc/sysrq-trigger"))
attempt("host", lambda: socket.create_connection(("172.17.0.1", 22), 1))
print(json.dumps(results))
"""


@pytest.mark.rows("C31")
async def test_what_reaches_out_of_a_container_is_refused(sandbox: DockerSandbox) -> None:
    found = json.loads((await sandbox.exec(["python3", "-c", PROBE], check=True)).stdout)
    assert "allowed" not in found.values(), found
    assert len(found) == 13


async def test_a_strict_sandbox_can_write_only_where_it_works(engine: Engine) -> None:
    recipe = DockerBackend(
        network="none", hardening="strict", resources=Resources(disk=8 * 1024**2)
    )
    async with recipe.sandbox() as sandbox:
        assert (await sandbox.exec("id -u; touch here /tmp/there")).stdout == "65534\n"
        assert not (await sandbox.exec("touch /etc/x")).ok
        full = await sandbox.exec("head -c 20M /dev/zero > big")
        assert "No space left" in full.stderr
        with pytest.raises(Unsupported):
            await sandbox.snapshot("x")
        with pytest.raises(Unsupported):
            await sandbox.fork()


async def test_what_cannot_be_is_refused_before_anything_is_made(engine: Engine) -> None:
    with pytest.raises(Unsupported, match="disk"):
        await DockerBackend(resources=Resources(disk=10**9)).create()
    for wrong in (
        {"network": "some"},
        {"hardening": "very"},
        {"working_dir": "relative"},
        {"lease": 0},
    ):
        with pytest.raises(ConfigError):
            DockerBackend(**wrong)
    with pytest.raises(SandboxError, match="no Docker Engine answers"):
        await DockerBackend(host="unix:///nowhere/docker.sock").create()
    with pytest.raises(SandboxError, match=r"no-such-image|pulling"):
        await DockerBackend(image="no-such-image:at-all").create()


WRITERS: list[dict[str, Any]] = [
    {"user": "nobody"},
    {"user": "nobody:1234"},
    {"user": "1234:5678"},
    {"user": "1234"},
    {"user": "1234", "working_dir": "/deep/down/here"},
    {"image": Image.from_registry("paddock:base").user("games")},
    {"image": Image.from_registry("paddock:base").workdir("/app").user("games")},
    {"image": Image.from_registry("paddock:base").workdir("/app").user("games"), "user": "1234"},
]


@pytest.mark.parametrize("hardening", ["default", "strict"])
@pytest.mark.parametrize("recipe", WRITERS)
async def test_the_working_directory_is_its_users(
    engine: Engine, recipe: dict[str, Any], hardening: Any, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("from here")
    made = DockerBackend(
        network="none", hardening=hardening, uploads=[(str(tmp_path / "there"), "there")], **recipe
    )
    async with made.sandbox() as sandbox:
        await sandbox.fs.write_text("written", "text")
        result = await sandbox.exec("touch x; stat -c %u . x; id -u; cat there", check=True)
    owner, of_file, own, *there = result.stdout.splitlines()
    assert owner == of_file == own != "0"
    assert there == ["from here"]


async def test_a_directory_that_everybody_may_use_stays_so(engine: Engine) -> None:
    recipe = DockerBackend(network="none", user="nobody", working_dir="/tmp")
    async with recipe.sandbox() as sandbox:
        assert (await sandbox.exec("pwd; stat -c '%a %u' .")).stdout == "/tmp\n1777 0\n"


async def test_a_user_that_the_image_does_not_have_is_told(engine: Engine) -> None:
    for hardening in ("default", "strict"):
        recipe = DockerBackend(network="none", user="nobody-at-all", hardening=hardening)
        with pytest.raises(ConfigError, match="user='nobody-at-all'"):
            await recipe.create()


async def test_the_images_working_directory_is_the_sandboxs(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM paddock:base\nWORKDIR /app\n")
    at_root = Image.from_registry("paddock:base").workdir("/")
    for image, place in (
        (Image.from_registry("paddock:base").workdir("/app"), "/app"),
        (Image.from_dockerfile(tmp_path / "Dockerfile"), "/app"),
        (at_root, "/workspace"),
    ):
        async with DockerBackend(network="none", image=image).sandbox() as sandbox:
            assert str(sandbox.working_dir) == place
            assert (await sandbox.exec("pwd; touch x")).stdout == f"{place}\n"
        recipe = DockerBackend(network="none", image=image, working_dir="/given")
        async with recipe.sandbox() as sandbox:
            assert (await sandbox.exec("pwd")).stdout == "/given\n"


async def test_its_hostname_resolves_and_shared_memory_has_the_size_asked_for(
    engine: Engine,
) -> None:
    look = "getent hosts $(hostname) | awk '{print $2}'; df -k --output=size /dev/shm | tail -1"
    for recipe, size in (
        (DockerBackend(resources=Resources(shm_size=300 * 1024**2)), 300 * 1024),
        (DockerBackend(hardening="strict", resources=Resources(memory=1024**3)), 256 * 1024),
    ):
        async with replace(recipe, network="none").sandbox() as sandbox:
            assert (await sandbox.exec(look)).stdout.split() == [sandbox.id, str(size)]


async def test_user_and_working_directory_are_the_recipes(engine: Engine) -> None:
    recipe = DockerBackend(network="none", user="1234:1234", working_dir="/made/here")
    async with recipe.sandbox() as sandbox:
        result = await sandbox.exec("id -u; id -g; pwd")
        assert result.stdout == "1234\n1234\n/made/here\n"


async def test_a_command_may_run_as_another_user(engine: Engine, sandbox: DockerSandbox) -> None:
    who = "id -u; id -g; echo $HOME; cat /proc/self/status | grep CapEff"
    as_nobody = await sandbox.exec(who, user="nobody")
    assert as_nobody.stdout.splitlines() == ["65534", "65534", "/nonexistent", NO_CAPABILITIES]
    as_number = await sandbox.exec(who, user="1234:5678")
    assert as_number.stdout.splitlines() == ["1234", "5678", "/", NO_CAPABILITIES]
    assert (await sandbox.exec("id -u")).stdout == "0\n"
    with pytest.raises(ConfigError, match="user='nobody-at-all'"):
        await sandbox.exec("true", user="nobody-at-all")
    assert (await sandbox.exec(["no-such-program"], user="nobody")).exit_code == 127
    with pytest.raises(ExecTimeout):
        await sandbox.exec("trap '' TERM; sleep 982000 & sleep 982001", user="nobody", timeout=0.5)
    assert not (await sandbox.exec("pgrep -f 'sleep 98200[01]'")).ok


NO_CAPABILITIES = "CapEff:\t0000000000000000"
