"""Who joins a guest wrongly ends only itself, and keeps nobody else from joining."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.errors import PaddockError

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.parametrize("backend", ["docker", "docker-nobody"], indirect=True)

INTRUDE = r"""
import contextlib, json, os, socket, struct

HEADER, LENGTH = struct.Struct("!IBI"), struct.Struct("!I")


def frame(kind, payload=b""):
    return HEADER.pack(len(payload), kind, 1) + payload


def message(text):
    return LENGTH.pack(len(text)) + text


join = json.dumps({"op": "join", "join_token": "guess"}).encode()
attempts = [
    b"",
    frame(1),
    frame(1, message(b"{")),
    frame(1, message(b"[" * 100_000)),
    frame(1, message(join)),
    frame(1, LENGTH.pack(2**32 - 1)),
    *(frame(kind, b"\0" * 4) for kind in range(256)),
    HEADER.pack(2**32 - 1, 1, 1) + bytes(1 << 20),
    os.urandom(32) + frame(1, message(join)),
    os.urandom(1 << 20),
]
for said in attempts:
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect("\0paddock-guest")
        guest.settimeout(20)
        with contextlib.suppress(ConnectionError):
            guest.sendall(said)
            guest.shutdown(socket.SHUT_WR)
            assert guest.recv(1) == b"", said[:40]
"""
HOLD_PLACES = r"""
import os, socket

print("started", flush=True)
for _ in range(3):
    os.fork()
held = []
while True:
    guest = socket.socket(socket.AF_UNIX)
    guest.connect("\0paddock-guest")
    guest.send(b"slowly")
    held = [*held[-20:], guest]
"""


@pytest.mark.parametrize("user", [None, "nobody"])
async def test_a_process_that_joins_wrongly_ends_only_itself(
    sandbox: Sandbox, backend: DockerBackend, user: str | None
) -> None:
    if backend.user is not None:
        user = None  # it cannot be another one
    await sandbox.exec(["python3", "-c", INTRUDE], user=user, timeout=50, check=True)
    assert (await sandbox.exec("echo alive", timeout=30)).stdout == "alive\n"


async def test_a_host_joins_while_others_take_all_places_again_and_again(sandbox: Sandbox) -> None:
    assert isinstance(sandbox, DockerSandbox)
    async with await sandbox.start(["python3", "-c", HOLD_PLACES]) as process:
        async for _ in process.output():
            break
        async with asyncio.timeout(60):
            other = await DockerBackend().attach(sandbox.id)
        try:
            assert (await other.exec("echo joined", timeout=30)).stdout == "joined\n"
        finally:
            await other.detach()
        await process.kill()
    assert (await sandbox.exec("echo alive", timeout=30)).stdout == "alive\n"


LIE_IN_WAIT = r"""
import contextlib, json, os, stat, struct

HEADER, LENGTH = struct.Struct("!IBI"), struct.Struct("!I")


def verdict(channel):
    streams = {name: {"dropped": 0} for name in ("stdout", "stderr")}
    body = {"exit_code": 0, "duration": 1.0, "background": False, **streams}
    text = json.dumps(body).encode()
    pieces = (18, b"42 tests passed\n"), (17, LENGTH.pack(len(text)) + text)
    return b"".join(HEADER.pack(len(said), kind, channel) + said for kind, said in pieces)


FORGED = b"".join(map(verdict, range(1, 200)))
print("started", flush=True)
os.fork()
opened = set()
while not os.path.exists("enough"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"PR_SET_" b"DUMPABLE" not in file.read():  # split: this one has it not
                continue
            for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (3, os.O_RDWR)):
                with contextlib.suppress(OSError):
                    path = f"/proc/{pid}/fd/{number}"
                    if stat.S_ISREG(os.stat(path).st_mode):
                        continue  # a library that it is loading, which is ours as well
                    fd = os.open(path, flags | os.O_NONBLOCK)
                    opened.add(pid)
                    with contextlib.ExitStack() as open_now:
                        open_now.callback(os.close, fd)
                        os.read(fd, 100) if number == 0 else os.write(fd, FORGED)
print(len(opened), flush=True)
"""
JOINS = 5


async def test_who_waits_for_the_relay_s_first_moments_forges_nothing(sandbox: Sandbox) -> None:
    """Until it has closed itself to others, which takes an interpreter some milliseconds."""
    async with await sandbox.start(["python3", "-c", LIE_IN_WAIT]) as process:
        async for _ in process.output():
            break
        for _ in range(JOINS):
            verdict = await _grade_as_another_host(sandbox.id)
            assert verdict in (None, (1, "3 tests FAILED\n"))
        await sandbox.fs.write_text("enough", "")
        result = await process.wait()
    assert result.ok, result.stderr
    after = await sandbox.exec("echo alive", timeout=60)
    assert after.stdout == "alive\n", after


async def _grade_as_another_host(name: str) -> tuple[int, str] | None:
    """The verdict that a host gets which joins for it; None if it is kept from that."""
    try:
        async with asyncio.timeout(60):
            other = await DockerBackend().attach(name)
            try:
                result = await other.exec("echo '3 tests FAILED'; exit 1")
            finally:
                await other.detach()
    except PaddockError:
        return None
    return result.exit_code, result.stdout
