"""Engines of the tests' own: restarted or killed under a sandbox, reached by TLS and by ssh."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from paddock import ExecResult, SandboxLost, Unsupported
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from tests.conftest import Require

pytestmark = [
    pytest.mark.docker,
    # docker-py leaves a socket open that it cannot connect, as to an engine that is just ending.
    pytest.mark.filterwarnings("ignore:unclosed <socket.*family=1,:ResourceWarning"),
]

PATIENCE = 60.0
"""Seconds for an engine to start, take an image or end, on a busy machine."""


START = 'ip link set lo up; exec dockerd --bridge=none --iptables=false "$@"'
"""In a network of its own: an engine without a bridge removes the one that others have."""


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What docker-py leaves open is not found while another test runs."""
    yield
    gc.collect()


@dataclass
class PrivateEngine:
    """A Docker Engine with everything that it has in one folder, and a network of its own."""

    folder: Path
    options: tuple[str, ...]
    _process: asyncio.subprocess.Process | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/socket"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def containerd(self) -> Path:
        """Where the number of its helper is, which outlives it when it is killed."""
        return self.folder / "exec" / "containerd" / "containerd.pid"

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = await self._run(
                *("--host", self.host, "--data-root", f"{self.folder}/data"),
                *("--exec-root", f"{self.folder}/exec", "--pidfile", f"{self.folder}/pid"),
                *self.options,
                log=log,
            )
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.1)

    async def _run(self, *options: str, log: IO[bytes]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("unshare", "--net", "sh", "-c", START, "sh", *options), stdout=log, stderr=log
        )

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.folder / "log").read_text()[-2000:]
        with contextlib.suppress(EngineError):
            engine = await Engine.connect(self.host)
            await engine.call("asking", engine.client.ping)
            return True
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()
        if number == signal.SIGKILL:  # what it would have removed, or would start anew
            await asyncio.to_thread(_end, self.containerd)
            (self.folder / "pid").unlink(missing_ok=True)

    async def remove(self) -> None:
        """End it, what it has left running, and its folder."""
        assert self._process is not None
        if self._process.returncode is None:
            await self.stop()
        await asyncio.to_thread(_end, self.containerd)
        await asyncio.to_thread(_remove, self.folder)


APART = """
import ctypes, os, sys
assert not ctypes.CDLL(None).unshare(0x10000000 | 0x40000000 | 0x00020000)  # user, net, mount
print("apart", flush=True)
sys.stdin.readline()
os.dup2(2, 1)
os.setgid(0)
os.setuid(0)
os.execv("/bin/sh", sys.argv[1:])
"""
IDS = 1_000_000_000
"""Where the ids of this machine begin that its containers get."""


class RootlessEngine(PrivateEngine):
    """One that has no right over this machine: its root is an ordinary user outside.

    It is what rootlesskit makes, without the network that reaches out and without the
    systemd that could give it control groups.
    """

    async def _run(self, *options: str, log: IO[bytes]) -> asyncio.subprocess.Process:
        os.chown(self.folder, IDS, IDS)
        publisher = self.folder / "rootlesskit-docker-proxy"  # it has to be there, and has no work
        publisher.symlink_to("/bin/false")
        home = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "ROOTLESSKIT_STATE_DIR"), str(self.folder))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", APART, "sh", "-c", f"mount -t tmpfs none /run; {START}", "sh"),
            *("--rootless", *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={
                **os.environ,
                **home,
                "XDG_RUNTIME_DIR": "/run",
                "PATH": f"{os.environ['PATH']}:{self.folder}",
            },
        )
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.to_thread(_map_ids, process.pid)
        process.stdin.close()
        return process


def _map_ids(process: int) -> None:
    for kind in ("uid", "gid"):
        Path(f"/proc/{process}/{kind}_map").write_text(f"0 {IDS} 65536")


def _remove(folder: Path) -> None:
    """Remove a folder with all that is mounted below it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if Path(mount).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(folder)


def _end(pidfile: Path) -> None:
    """Kill the process whose number is in a file, and wait until it is gone."""
    try:
        process = int(pidfile.read_text())
        watched = os.pidfd_open(process)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        assert select.select([watched], [], [], PATIENCE)[0], f"{process} does not end"
    finally:
        os.close(watched)
        pidfile.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _started(
    image: str,
    options: Callable[[Path], Sequence[str]],
    kind: type[PrivateEngine] = PrivateEngine,
) -> AsyncIterator[PrivateEngine]:
    """An engine that has `image`, with the options for its folder."""
    # The path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="paddock-engine-", dir="/tmp"))
    engine = kind(folder, tuple(options(folder)))
    try:
        await engine.start()
        await asyncio.to_thread(_copy_image, image, engine.host)
        yield engine
    finally:
        await engine.remove()


@pytest.fixture
def _can_start_engines(require: Require) -> None:
    require("dockerd", os.geteuid() == 0 and shutil.which("dockerd"), "needs root and dockerd")


@pytest.fixture(params=[(), ("--live-restore",)], ids=["plain", "live-restore"])
async def private_engine(
    request: pytest.FixtureRequest, _can_start_engines: None, base_image: str
) -> AsyncIterator[PrivateEngine]:
    options: tuple[str, ...] = request.param
    async with _started(base_image, lambda _: options) as engine:
        yield engine


def _copy_image(name: str, host: str) -> None:
    with subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE) as saving:
        subprocess.run(
            ["docker", "--host", host, "load"],
            stdin=saving.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE,
        )


@pytest.mark.rows("C1", "C2")
async def test_a_restarted_engine_is_a_lost_sandbox_or_none_at_all_and_never_a_hang(
    private_engine: PrivateEngine,
) -> None:
    recipe = DockerBackend(host=private_engine.host, network="none")
    for how in (signal.SIGTERM, signal.SIGKILL):
        async with recipe.sandbox() as sandbox:
            waiting = asyncio.create_task(sandbox.exec("sleep 4; echo done"))
            assert (await sandbox.exec("echo here")).stdout == "here\n"
            await private_engine.stop(how)
            await private_engine.start()
            async with asyncio.timeout(PATIENCE):
                (told,) = await asyncio.gather(waiting, return_exceptions=True)
            if isinstance(told, SandboxLost):
                assert re.search("engine|container", told.reason, re.IGNORECASE)
                assert sandbox.lost
            else:
                assert isinstance(told, ExecResult)
                assert told.stdout == "done\n"
        assert await _containers(private_engine) == []
    async with recipe.sandbox() as sandbox:  # the engine is as good as new
        assert (await sandbox.exec("echo again")).stdout == "again\n"


async def _containers(private_engine: PrivateEngine) -> list[object]:
    engine = await Engine.connect(private_engine.host)
    found: list[object] = await engine.call("listing", engine.client.containers, all=True)
    return found


@pytest.mark.usefixtures("_can_start_engines")
async def test_an_engine_without_control_groups_says_what_it_cannot_do(base_image: str) -> None:
    async with _started(base_image, lambda _: (), RootlessEngine) as engine:
        recipe = DockerBackend(host=engine.host, network="none")
        for resources, what in (
            (Resources(memory=1024**3), "memory"),
            (Resources(cpu=1), "CPU"),
            (Resources(pids=100), "processes"),
        ):
            with pytest.raises(Unsupported, match=f"a limit on {what}; the engine lacks"):
                await replace(recipe, resources=resources).create()
        assert await _containers(engine) == []
        async with recipe.sandbox() as sandbox, await recipe.attach(sandbox.id) as other:
            for one in (sandbox, other):
                assert one.capabilities.isdisjoint(OF_CONTROL_GROUPS)
                for call in (one.pause, one.stats):
                    with pytest.raises(Unsupported, match=call.__name__):
                        await call()
            result = await sandbox.exec("id -u; cat /proc/self/uid_map")
            assert result.stdout.split() == ["0", "0", str(IDS), "65536"]


OF_CONTROL_GROUPS = {
    *(Capability.LIMIT_MEMORY, Capability.LIMIT_CPU, Capability.LIMIT_PIDS),
    *(Capability.PAUSE, Capability.STATS),
}

CERTIFICATES = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem
for name in server client; do
  openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name-key.pem -out $name.csr
  echo "subjectAltName=IP:127.0.0.1" >$name.ext
  openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial \\
    -extfile $name.ext -out $name.pem
done
cp client.pem cert.pem
cp client-key.pem key.pem
"""
TCP = "tcp://127.0.0.1:2376"
SSH = """#!/bin/sh
case $* in
*somewhere*"docker system dial-stdio") exec docker --host {host} system dial-stdio ;;
esac
exit 255
"""


@pytest.mark.usefixtures("_can_start_engines")
async def test_an_engine_is_reached_by_tls_and_by_ssh(
    base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates, programs = tmp_path / "certificates", tmp_path / "bin"
    certificates.mkdir()
    await asyncio.to_thread(_shell, CERTIFICATES, certificates)
    tls = ("--tlsverify", f"--tlscacert={certificates}/ca.pem")
    pair = (f"--tlscert={certificates}/server.pem", f"--tlskey={certificates}/server-key.pem")
    listening = ("--host", TCP, *tls, *pair)
    async with _started(base_image, lambda _: listening) as engine:
        programs.mkdir()
        ssh = programs / "ssh"
        ssh.write_text(SSH.format(host=engine.host))
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # to requests they are above all
            monkeypatch.delenv(name, raising=False)

        async def by_the_command_line(host: str, **env: str) -> str:
            return await asyncio.to_thread(_exec, engine, {"DOCKER_HOST": host, **env})

        assert await by_the_command_line("ssh://me@somewhere:2222") == "here\n"
        told = await by_the_command_line(TCP, DOCKER_TLS_VERIFY="1")
        assert re.search(r"certificate|TLS|SSL", told)
        trusted = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}
        assert await by_the_command_line(TCP, **trusted) == "here\n"
        assert await _containers(engine) == []


def _shell(script: str, folder: Path) -> None:
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, capture_output=True, timeout=60)


def _exec(engine: PrivateEngine, env: dict[str, str]) -> str:
    """What a command prints that is run in the engine's network: it, or what went wrong."""
    told = subprocess.run(
        [
            *("nsenter", f"--net=/proc/{engine.pid}/ns/net", sys.executable, "-m", "paddock"),
            *("exec", "--backend", "docker", "--image", "paddock:base", "--", "echo", "here"),
        ],
        env=os.environ | env,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return told.stdout or told.stderr
