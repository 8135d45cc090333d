"""One sandbox misbehaves, or wants out: what the machine and the others notice of it.

Rows C8, C9, C19 and C29 of the reliability document, in containers and under bubblewrap.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import LocalBackend
from paddock.backends import lease, local
from paddock.backends.docker import DockerBackend
from paddock.backends.isolation import levels
from paddock.runtime.core.tool import ToolInvocation
from paddock.runtime.permissions.profile import load_profile
from paddock.runtime.tools.factory import build_registry
from paddock.sandbox import Resources
from tests.lending import lending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from paddock import Sandbox

    Recipe = DockerBackend | LocalBackend
    Operation = Callable[[str], Awaitable[object]]

LAG = 1.0
"""Seconds that the event loop may be late on a busy machine; what spins goes on for longer."""

FELT = 1.0
"""Seconds that a neighbour's command may take on a busy machine: it takes some milliseconds."""

BOMB = """
import os
first, told = os.getpid(), False
while True:
    try:
        os.fork()
    except OSError:
        if os.getpid() == first and not told:
            told = bool(os.write(1, b"full\\n"))
"""

SPIN = """
import os, time
start = time.monotonic()
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < start + 1.5:
            pass
        os._exit(0)
for _ in range(2):
    os.wait()
spent = os.times()
print(spent.children_user + spent.children_system, time.monotonic() - start)
"""


@pytest.fixture(params=["docker", "local-bubblewrap"])
async def recipe(
    request: pytest.FixtureRequest, require: Callable[[str, object, str], None]
) -> Recipe:
    if request.param == "docker":
        request.getfixturevalue("base_image")
        return DockerBackend(network="none")
    found = await local.probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    require("cgroups", len(found.places) == len(levels.LIMITS_BY), found.unlimited)
    return LocalBackend(isolation="bubblewrap")


# ------------------------------------------------------------------------------- load


@pytest.mark.rows("C8")
async def test_a_fork_bomb_is_not_felt_next_door_and_can_be_killed(
    recipe: Recipe,
) -> None:
    limited = replace(recipe, resources=Resources(pids=64, cpu=0.5))
    async with limited.sandbox() as bombed, recipe.sandbox() as neighbour:
        before = await _latency(neighbour)
        bomb = await bombed.start(["python3", "-c", BOMB])
        async with asyncio.timeout(60):
            assert await anext(aiter(bomb.output())) == ("stdout", b"full\n")
        during = await _latency(neighbour)
        async with asyncio.timeout(20):
            await bomb.kill(grace=0)
        assert (await bombed.exec("echo on", timeout=60)).stdout == "on\n"
    assert during < max(2 * before, FELT)


async def _latency(sandbox: Sandbox) -> float:
    """How long a command that does nothing takes, at its 95th percentile, in seconds."""
    taken = []
    for _ in range(40):
        started = time.monotonic()
        assert (await sandbox.exec(["true"])).ok
        taken.append(time.monotonic() - started)
    return sorted(taken)[len(taken) * 95 // 100]


@pytest.mark.rows("C9")
async def test_sandboxes_that_spin_keep_their_quota_and_leave_the_event_loop_alone(
    recipe: Recipe,
) -> None:
    quota = 0.1
    limited = replace(recipe, resources=Resources(cpu=quota))
    async with (
        limited.sandbox() as a,
        limited.sandbox() as b,
        limited.sandbox() as c,
        limited.sandbox() as d,
    ):
        spins = (sandbox.exec(["python3", "-c", SPIN], timeout=30) for sandbox in (a, b, c, d))
        spinning = asyncio.gather(*spins)
        lags = await _lags(spinning)
        for result in await spinning:
            spent, elapsed = map(float, result.stdout.split())
            assert spent < 1.2 * quota * elapsed + 0.1
    assert sorted(lags)[len(lags) * 99 // 100] < LAG


async def _lags(work: asyncio.Future[Any]) -> list[float]:
    """How late the event loop's timers are, in seconds, until `work` is done."""
    loop = asyncio.get_running_loop()
    lags = []
    while not work.done():
        due = loop.time() + 0.01
        await asyncio.wait([work], timeout=0.01)
        lags.append(max(0.0, loop.time() - due))
    return lags


# -------------------------------------------------------------------- from one to another

SERVER = """
import signal, socket
tcp, hidden = socket.socket(), socket.socket(socket.AF_UNIX)
tcp.bind(("0.0.0.0", 18080))
hidden.bind("\\0paddock-neighbour")
tcp.listen()
hidden.listen()
print("up", flush=True)
signal.pause()
"""

PROBES = {
    "file in /tmp": "grep -q canary /tmp/f",
    "file in the working directory": "grep -q canary f",
    "file by /proc": "grep -q canary /proc/[0-9]*/cwd/f",
    "shared memory": "grep -q canary /dev/shm/f",
    "signal": "pkill -0 -f 'sleep 98400[0]'",
    "environment": "tr '\\0' '\\n' < /proc/$(pgrep -f 'sleep 98400[0]')/environ | grep -q PATH",
    "tcp": "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 18080), 2)'",
    "abstract socket": "python3 -c 'import socket; "
    'socket.socket(socket.AF_UNIX).connect("\\0paddock-neighbour")\'',
}
"""What sees something of the first sandbox; in that one each of them succeeds."""


@pytest.mark.rows("C29")
async def test_two_sandboxes_share_neither_files_nor_processes_nor_ports(recipe: Recipe) -> None:
    async with recipe.sandbox() as first, recipe.sandbox() as second:
        plant = "for f in /tmp/f f /dev/shm/f; do echo canary > $f; done; sleep 984000 &"
        await first.exec(plant, check=True)
        server = await first.start(["python3", "-c", SERVER])
        async with asyncio.timeout(60):
            assert await anext(aiter(server.output())) == ("stdout", b"up\n")
        seen = {
            (sandbox, name): (await sandbox.exec(probe, timeout=60)).ok
            for name, probe in PROBES.items()
            for sandbox in (second, first)
        }
        assert {name for (sandbox, name), ok in seen.items() if ok and sandbox is second} == set()
        assert {name for (sandbox, name), ok in seen.items() if ok} == set(PROBES)


@pytest.mark.rows("C29")
async def test_of_two_fenced_sandboxes_each_has_a_user_of_its_own(
    require: Callable[[str, object, str], None],
) -> None:
    require("root", os.getuid() == 0, "only root can give a sandbox another user")
    found = await local.probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    fenced = LocalBackend(isolation="bubblewrap")
    async with fenced.sandbox() as first, fenced.sandbox() as second:
        owners = {_owner(sandbox) for sandbox in (first, second)}
    assert len(owners) == 2
    assert 0 not in owners


def _owner(sandbox: Sandbox) -> int:
    return (lease.base_directory() / sandbox.id / "work").stat().st_uid


# ---------------------------------------------------------------------------- to the host

CANARY = "canary-of-the-host"


def _spellings(path: str) -> Iterator[str]:
    """Ways to name the host's file `path`; the links are in the working directory."""
    up = "../" * 20
    yield from (path, up + path, "link", "chain", "folder/secret", f"deep/{up}{path}")
    yield from (f"/proc/self/root{path}", f"/proc/1/root{path}", f"/proc/1/cwd/{up}{path}")


def _operations(sandbox: Sandbox, target: Path) -> dict[str, Operation]:
    """All that can be done with a path of the sandbox, by the files and by the edit tool."""
    fs, registry = sandbox.fs, build_registry(load_profile("unrestricted"))
    (target / "up").mkdir()
    (target / "up" / "secret").write_text("mine")

    async def edit(path: str) -> object:
        arguments = {"path": path, "old_string": CANARY, "new_string": "mine"}
        return await registry.dispatch(ToolInvocation("1", "edit", arguments, lending(sandbox)))

    return {
        "read_bytes": fs.read_bytes,
        "read_lines": fs.read_lines,
        "grep": lambda path: fs.grep("canary", path),
        "list": lambda path: fs.list(os.path.dirname(path) or "."),
        "glob": lambda path: fs.glob("*secret*", os.path.dirname(path) or "."),
        "download_file": lambda path: fs.download_file(path, target / "one"),
        "download": lambda path: fs.download(os.path.dirname(path) or ".", target / "down"),
        "edit": edit,
        "write_text": lambda path: fs.write_text(path, "mine"),
        "upload_file": lambda path: fs.upload_file(target / "up" / "secret", path),
        "upload": lambda path: fs.upload(target / "up", os.path.dirname(path) or "."),
        "move": lambda path: fs.move(path, "taken"),
        "remove": fs.remove,
    }


@pytest.mark.rows("C19")
async def test_no_spelling_of_a_path_leads_any_operation_to_the_host(
    recipe: Recipe, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="paddock-out-", dir=Path.home()) as name:
        secret = _planted(Path(name, "secret"))
        async with recipe.sandbox() as sandbox:
            links = {"link": str(secret), "chain": "chain2", "chain2": "link", "folder": name}
            for link, to in links.items():
                await sandbox.exec(["ln", "-s", to, link], check=True)
            await sandbox.fs.mkdir("deep")
            operations = _operations(sandbox, tmp_path)
            for operation in operations:
                for path in _spellings(str(secret)):
                    told = await _outcome(operations[operation], path)
                    assert CANARY not in told, (operation, path)
                    assert _texts(Path(name)) == [CANARY], (operation, path)
        assert CANARY not in _texts(tmp_path)


async def _outcome(operation: Operation, path: str) -> str:
    try:
        return str(await operation(path))
    except (OSError, ValueError) as error:
        return f"refused: {error}"


def _planted(path: Path) -> Path:
    path.write_text(CANARY)
    return path


def _texts(folder: Path) -> list[str]:
    """The contents of all files below `folder`."""
    return [path.read_text() for path in folder.rglob("*") if path.is_file()]
