"""What is Docker's own: posture, snapshots, pauses, and how sandboxes end, on a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from paddock import (
    ConfigError,
    ExecTimeout,
    Image,
    SandboxClosed,
    SandboxError,
    SandboxLost,
    Unsupported,
)
from paddock.backends.docker import DockerBackend, owner
from paddock.backends.docker.attach import join_stream
from paddock.backends.docker.build import ensure
from paddock.backends.docker.engine import Engine, EngineError
from paddock.backends.docker.sandbox import DockerSandbox
from paddock.backends.guest.client import GuestClient
from paddock.sandbox import Resources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock import Progress
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.docker

RECIPE = DockerBackend(network="none")


@pytest.fixture
async def engine(
    docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    """The engine; fails the test that leaves one of its own containers or images on it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield docker_engine
    assert await _names(docker_engine) == set()
    assert await _forks(docker_engine) == []


async def _names(engine: Engine) -> set[str]:
    """The containers whose owner is this test or a child of it, by where their locks are."""
    ours = {"label": f"{owner.PLACE_LABEL}={owner.place()}"}
    found = await engine.call("listing", engine.client.containers, all=True, filters=ours)
    return {container["Names"][0] for container in found}


async def _forks(engine: Engine) -> list[Any]:
    """The images that forks of this test were made from."""
    ours = {"label": f"{owner.FORK_LABEL}={owner.place()}"}
    found: list[Any] = await engine.call("listing", engine.client.images, filters=ours)
    return found


@pytest.fixture
async def sandbox(engine: Engine) -> AsyncIterator[DockerSandbox]:
    async with RECIPE.sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        yield sandbox


async def _inspect(engine: Engine, sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = await engine.call(
        "inspecting", engine.client.inspect_container, sandbox.id
    )
    return found


# ----------------------------------------------------------------------------- posture


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
    assert host["Memory"] == host["MemorySwap"] == 4 * 1024**3
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
    with pytest.raises(ValueError, match="no user called nobody-at-all"):
        await sandbox.exec("true", user="nobody-at-all")
    assert (await sandbox.exec(["no-such-program"], user="nobody")).exit_code == 127
    with pytest.raises(ExecTimeout):
        await sandbox.exec("trap '' TERM; sleep 982000 & sleep 982001", user="nobody", timeout=0.5)
    assert not (await sandbox.exec("pgrep -f 'sleep 98200[01]'")).ok


NO_CAPABILITIES = "CapEff:\t0000000000000000"


# ------------------------------------------------------------- snapshots, pauses, numbers


async def test_a_snapshot_keeps_files_and_is_nobodys_sandbox(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    await sandbox.fs.write_text("kept", "yes")
    name = f"paddock-test-snapshot:{sandbox.id}"
    await sandbox.snapshot(name)
    try:
        async with DockerBackend(image=name, network="none").sandbox() as again:
            assert await again.fs.read_text("kept") == "yes"
        found = await engine.call("inspecting", engine.client.inspect_image, name)
        assert found["Config"]["Labels"]["dev.paddock.sandbox"] == ""
    finally:
        await engine.call("removing", engine.client.remove_image, name)
    assert (await sandbox.exec("cat kept")).stdout == "yes"


async def test_forks_have_the_files_and_lives_of_their_own(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    await sandbox.fs.write_text("shared", "1")
    first, second = await sandbox.fork(2)
    try:
        await first.fs.write_text("shared", "2")
        texts = [await one.fs.read_text("shared") for one in (sandbox, first, second)]
        assert texts == ["1", "2", "1"]
    finally:
        await asyncio.gather(first.aclose(), second.aclose())
    assert await _forks(engine) == []


async def test_a_cancelled_fork_leaves_neither_sandbox_nor_image(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    for delay in (0.0, 0.3, 0.8):
        forking = asyncio.create_task(sandbox.fork(2))
        await asyncio.wait([forking], timeout=delay)
        forking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            for made in await forking:
                await made.aclose()
    assert await _names(engine) == {f"/{sandbox.id}"}
    assert await _forks(engine) == []


async def test_a_paused_sandbox_stands_still_and_goes_on(engine: Engine) -> None:
    async with DockerBackend(network="none", lease=1.5).sandbox() as sandbox:
        await sandbox.exec("(while sleep 0.05; do date +%s%N > tick; done) & true")
        await sandbox.pause()
        running = asyncio.create_task(sandbox.exec("echo on"))
        done, _ = await asyncio.wait([running], timeout=2.5)  # longer than the lease
        assert not done
        await sandbox.resume()
        assert (await running).stdout == "on\n"


async def test_stats_are_numbers_of_this_sandbox(sandbox: DockerSandbox) -> None:
    stats = await sandbox.stats()
    assert stats.memory_limit == 4 * 1024**3
    assert 0 < stats.memory < 200 * 1024**2
    assert 0 < stats.cpu < 60
    assert 1 <= stats.pids < 20


# --------------------------------------------------------------- more than one owner


async def test_a_sandbox_without_a_lease_outlives_its_maker_and_is_found_again(
    engine: Engine,
) -> None:
    recipe = DockerBackend(network="none", lease=None, labels={"job": "7"})
    maker = await recipe.create()
    await maker.fs.write_text("kept", "yes")
    await maker.exec("(sleep 0.5; echo finished > late) & true")
    await maker.detach()
    with pytest.raises(SandboxClosed):
        await maker.exec("true")
    try:
        assert await recipe.gc() == []
        again = await DockerBackend().attach(maker.id)
        assert again.labels == {"job": "7"}
        assert again.working_dir == maker.working_dir
        assert await again.fs.read_text("kept") == "yes"
        assert (await again.exec("while ! [ -e late ]; do sleep 0.05; done; cat late")).ok
        await again.detach()
        (found,) = await recipe.list({"job": "7"})
        assert (found.id, found.state) == (maker.id, "running")
    finally:
        assert await recipe.delete(maker.id)


async def test_a_maker_without_a_lease_that_is_killed_leaves_its_sandbox(
    engine: Engine, tmp_path: Path
) -> None:
    making = (
        "import asyncio\nfrom paddock import DockerBackend\n"
        "async def main():\n"
        "    sandbox = await DockerBackend(network='none', lease=None).create()\n"
        "    await sandbox.exec('echo on; sleep 0.7; echo ended > file',\n"
        "        on_output=lambda *_: print(sandbox.id, flush=True))\n"
        "asyncio.run(main())"
    )
    maker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", making),
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert maker.stdout is not None
    name = (await maker.stdout.readline()).decode().strip()
    maker.kill()
    await maker.wait()
    async with await DockerBackend().attach(name) as again:
        waiting = 'while [ "$(cat file)" != ended ]; do sleep 0.05; done'
        assert (await again.exec(waiting, timeout=20)).ok
    assert name not in {info.id for info in await DockerBackend().list()}


async def test_two_hosts_share_a_sandbox_until_its_maker_closes_it(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    other = await DockerBackend().attach(sandbox.id)
    try:
        first, second = await asyncio.gather(
            sandbox.exec("sleep 0.2; echo one"), other.exec("sleep 0.2; echo two")
        )
        assert (first.stdout, second.stdout) == ("one\n", "two\n")
        with pytest.raises(Unsupported, match="lease"):
            await sandbox.detach()
        await sandbox.aclose()
        async with asyncio.timeout(10):
            with pytest.raises(SandboxLost):
                await other.exec("sleep 100")
    finally:
        await other.aclose()


async def test_joining_takes_the_word_and_a_sandbox_of_ours(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    client = GuestClient()
    await join_stream(engine, sandbox.id, client)
    joining = asyncio.ensure_future(client.request("join", word="guess"))
    async with asyncio.timeout(10):
        await client.disconnected.wait()
    joining.cancel()
    client.fail("test over")
    assert (await sandbox.exec("echo untouched")).stdout == "untouched\n"
    with pytest.raises(EngineError, match="No such container"):
        await DockerBackend().attach("nobody")


# ----------------------------------------------------------------- a stream that breaks


class Cutter:
    """A proxy in front of the engine's socket, whose connections can all be cut."""

    def __init__(self) -> None:
        self.writers: set[asyncio.StreamWriter] = set()
        self.refusing = False

    async def pass_on(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.writers.add(back)
        if self.refusing:
            back.transport.abort()
            return
        far, forth = await asyncio.open_unix_connection("/var/run/docker.sock")
        self.writers.add(forth)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self.copy(near, forth), self.copy(far, back))

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            self.writers.discard(writer)
            writer.close()

    def cut(self) -> None:
        for writer in tuple(self.writers):
            writer.transport.abort()


@pytest.fixture
async def cutter(engine: Engine, tmp_path: Path) -> AsyncIterator[Cutter]:
    if not engine.endpoint.url.startswith("unix:///var/run"):
        pytest.skip(f"the engine is at {engine.endpoint.url}, and the proxy knows one socket")
    cutter = Cutter()
    server = await asyncio.start_unix_server(cutter.pass_on, tmp_path / "docker.sock")
    yield cutter
    server.close()
    cutter.cut()


async def test_results_outlive_the_stream_that_they_were_asked_over(
    cutter: Cutter, tmp_path: Path
) -> None:
    recipe = DockerBackend(network="none", host=f"unix://{tmp_path}/docker.sock")
    async with recipe.sandbox() as sandbox:
        long = "touch 1; seq 100; sleep 1; seq 100000; echo end >&2"
        running = asyncio.create_task(sandbox.exec(long))
        counting = asyncio.create_task(sandbox.exec("touch 2; echo once >> count; sleep 1"))
        ended = asyncio.create_task(sandbox.exec("touch 3; sleep 0.3; echo soon"))
        streamed = asyncio.create_task(
            sandbox.exec("touch 4; sleep 100", on_output=lambda *_: None)
        )
        await sandbox.exec("until [ -e 1 ] && [ -e 2 ] && [ -e 3 ] && [ -e 4 ]; do :; done")
        cutter.cut()
        assert isinstance(sandbox, DockerSandbox)
        await sandbox._client.disconnected.wait()
        meanwhile = asyncio.create_task(sandbox.exec("echo asked while there was no stream"))
        whole = "".join(f"{n}\n" for n in [*range(1, 101), *range(1, 100001)])
        async with asyncio.timeout(20):
            result = await running
            assert (result.stdout, result.stderr) == (whole, "end\n")
            assert (await ended).stdout == "soon\n"
            assert (await meanwhile).stdout == "asked while there was no stream\n"
            await counting
            with pytest.raises(SandboxLost, match="output was lost"):
                await streamed
        assert await sandbox.fs.read_text("count") == "once\n"
        assert not (await sandbox.exec("pgrep -f 'sleep 10[0]'")).ok


async def test_an_engine_that_is_gone_is_a_lost_sandbox_and_no_container(
    cutter: Cutter, engine: Engine, tmp_path: Path
) -> None:
    recipe = DockerBackend(network="none", host=f"unix://{tmp_path}/docker.sock")
    sandbox = await recipe.create()
    running = asyncio.create_task(sandbox.exec("sleep 100"))
    await asyncio.sleep(0.05)
    cutter.refusing = True
    cutter.cut()
    async with asyncio.timeout(5):
        with pytest.raises(SandboxLost, match=r"engine|Engine"):
            await running
    with contextlib.suppress(EngineError):
        await sandbox.aclose()
    async with asyncio.timeout(15):
        while await _names(engine):  # noqa: ASYNC110 - the engine removes it
            await asyncio.sleep(0.05)


# -------------------------------------------------------------------- how it ends


async def test_a_removed_container_is_lost_with_that_reason(engine: Engine) -> None:
    async with RECIPE.sandbox() as sandbox:
        running = asyncio.create_task(sandbox.exec("sleep 100"))
        await sandbox.exec("true")
        await engine.call("removing", engine.client.remove_container, sandbox.id, force=True)
        async with asyncio.timeout(10):
            with pytest.raises(SandboxLost, match="from outside"):
                await running


async def test_a_sandbox_whose_memory_runs_out_goes_on_or_says_so(engine: Engine) -> None:
    recipe = DockerBackend(network="none", resources=Resources(memory=64 * 1024**2))
    async with recipe.sandbox() as sandbox:
        hog = await sandbox.exec(["python3", "-c", "x = bytearray(10**9)"])
        assert (hog.exit_code, hog.oom_killed) == (137, True)
        behind = await sandbox.exec("python3 -c 'x = bytearray(10**9)'; exit $?")
        assert (behind.exit_code, behind.oom_killed) == (137, True)
        assert not (await sandbox.exec("kill -9 $$")).oom_killed
        assert (await sandbox.exec("echo goes on")).stdout == "goes on\n"


async def test_a_silent_owner_loses_its_sandbox_after_the_lease(engine: Engine) -> None:
    sandbox = await DockerBackend(network="none", lease=2).create()
    try:
        assert isinstance(sandbox, DockerSandbox)
        sandbox._heart.cancel()  # the owner hangs, but its connection stands
        async with asyncio.timeout(15):
            await sandbox._watcher
        with pytest.raises(SandboxLost, match="ended"):
            await sandbox.exec("true")
    finally:
        await sandbox.aclose()


async def test_an_idle_sandbox_with_a_living_owner_outlives_its_lease(engine: Engine) -> None:
    async with DockerBackend(network="none", lease=2).sandbox() as sandbox:
        await asyncio.sleep(5)
        assert (await sandbox.exec("echo here")).stdout == "here\n"


HOST = """
import asyncio
from paddock.backends.docker import DockerBackend

async def main():
    async def one(number):
        async with DockerBackend(network="none").sandbox() as sandbox:
            print("up", flush=True)
            await sandbox.exec("setsid sleep 1000 & sleep 1000")
    await asyncio.gather(*(one(number) for number in range(3)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [0, 1, 3], ids=["while making", "while starting", "at work"])
async def test_a_host_that_is_killed_leaves_no_container(
    engine: Engine, tmp_path: Path, lines: int
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, stdout=subprocess.PIPE, env=environment
    )
    assert host.stdout is not None
    for _ in range(lines):
        await host.stdout.readline()
    if not lines:
        async with asyncio.timeout(20):
            while not await _names(engine):  # noqa: ASYNC110 - somebody else makes them
                await asyncio.sleep(0.01)
    host.send_signal(signal.SIGKILL)
    await host.wait()
    # Nobody else uses the engine: what was never started has no guest, but an heir.
    async with asyncio.timeout(20):
        while await _names(engine):  # noqa: ASYNC110 - the engine removes them
            await asyncio.sleep(0.05)


async def test_an_engine_that_hangs_is_told_within_its_deadline(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    address = tmp_path / "docker.sock"
    monkeypatch.setattr("paddock.backends.docker.engine.DEADLINE", 0.5)
    async with await asyncio.start_unix_server(never_answer, address):
        with pytest.raises(EngineError, match=r"did not answer|no Docker Engine answers"):
            await DockerBackend(host=f"unix://{address}").create()
    assert accepted.is_set()


# ------------------------------------------------------------------------------ images


async def test_a_recipe_may_say_what_is_in_its_image(engine: Engine) -> None:
    image = Image.from_registry("paddock:base").run_commands("echo built > /built").env({"B": "2"})
    recipe = DockerBackend(image=image, network="none", env_vars={"E": "3"})
    steps: list[Progress] = []
    try:
        async with recipe.sandbox(on_progress=steps.append) as sandbox:
            assert (await sandbox.exec("cat /built; echo $B$E")).stdout == "built\n23\n"
        assert any(step.step == "image" for step in steps)
        async with recipe.sandbox(on_progress=steps.append) as sandbox:
            assert (await sandbox.exec("cat /built")).stdout == "built\n"
    finally:
        name = await asyncio.to_thread(image.reference)
        await engine.call("removing", engine.client.remove_image, name)


async def test_the_agent_image_works_as_a_ci_user_starts_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container of testcontainers, which is not ours, Paddock runs by itself."""
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)  # it would be pulled
    agent = await ensure(engine, "paddock:agent")
    command = "paddock exec --isolation none -- sh -c 'echo inside; exit 3'; echo code $?"

    def run() -> str:
        with DockerContainer(agent, entrypoint="sleep", command="60") as container:
            return str(container.exec(["sh", "-c", command]).output, "utf-8")

    assert await asyncio.to_thread(run) == "inside\ncode 3\n"
