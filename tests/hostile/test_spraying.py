"""Forged frames rain on all that a process can open, beside a grader whose verdict must stand.

`PADDOCK_SPRAY_SECONDS` says for how long; ``pytest -o log_cli_level=INFO`` shows the numbers.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.hostile.conftest import RECIPES

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

_log = logging.getLogger(__name__)

SECONDS = int(os.environ.get("PADDOCK_SPRAY_SECONDS", "5"))
GROWTH_MAX = 64 * 1024 * 1024
"""Bytes by which the host may grow."""
ABOVE_COMMANDS = {"daytona": 3, "local-landlock": 2}
"""How many processes of ours are above a command: its supervisor, the guest, the relay buffer. It
is told where a sandbox sees all processes of this machine, of which the others are not to be hit:
Daytona's run here, too, on a server of ours."""
SPRAYED = [*RECIPES, "daytona"]

SPRAY = r"""
import contextlib, json, os, random, signal, socket, struct, sys

LEVELS = int(sys.argv[1])  # 0: all that is seen is of this sandbox
HEADER, LENGTH = struct.Struct("!IBI"), struct.Struct("!I")
FILES = ("mem", "oom_score_adj", "clear_refs", "comm", "coredump_filter", "timerslack_ns")
signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def frame(kind, channel, payload):
    return HEADER.pack(len(payload), kind, channel) + payload


def verdict(channel):
    streams = {name: {"dropped": 0} for name in ("stdout", "stderr")}
    body = {"exit_code": 0, "duration": 1.0, "background": False, **streams}
    text = json.dumps(body).encode()
    reply = frame(17, channel, LENGTH.pack(len(text)) + text)
    return frame(18, channel, b"42 tests passed\n") + reply


def forged():
    if random.random() < 0.5:
        return os.urandom(random.randrange(1, 4096))
    return b"".join(verdict(channel) for channel in random.sample(range(400), 20))


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[1]


ABOVE = [str(os.getppid())]
while len(ABOVE) < LEVELS:
    ABOVE.append(parent_of(ABOVE[-1]))


def is_ours(pid):
    if LEVELS:
        return pid in ABOVE or parent_of(pid) == ABOVE[1]
    # Other commands have the user of this one, and what they do is theirs.
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    return pid == "1" or (b"-I" in words and b"-S" in words)


def write_to(pid, path):
    if LEVELS and os.getuid() == 0 and "pipe:" in os.readlink(f"/proc/{pid}/{path}"):
        return  # the output of a command, which is never safe from this machine's root
    fd = os.open(f"/proc/{pid}/{path}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.closing(os.fdopen(fd, "wb", buffering=0)) as file:
        if is_ours(pid):  # still: until it executes its program a command looks so, too
            file.write(forged())


def spray():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if not is_ours(pid):
                continue
        for path in (*(f"fd/{number}" for number in range(64)), *FILES):
            with contextlib.suppress(OSError):
                write_to(pid, path)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as guest:
        guest.settimeout(0.01)
        guest.connect("\0paddock-guest")
        guest.sendall(forged())
        guest.recv(1)


print("started", flush=True)
os.fork()
while True:
    spray()
"""
GRADER = "sleep 0.02; echo '3 tests FAILED'; exit 1"


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("backend", SPRAYED, indirect=True)
async def test_no_verdict_changes_and_nothing_hangs_while_frames_are_forged(
    sandbox: Sandbox, request: pytest.FixtureRequest
) -> None:
    before, verdicts = _rss(), 0
    levels = ABOVE_COMMANDS.get(request.node.callspec.params["backend"], 0)
    async with await sandbox.start(["python3", "-c", SPRAY, str(levels)]) as process:
        async for _ in process.output():
            break
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            result = await sandbox.exec(GRADER, timeout=60)
            assert (result.exit_code, result.stdout) == (1, "3 tests FAILED\n")
            verdicts += 1
        await process.kill()
    grown = _rss() - before
    _log.info("%d verdicts in %d s, the host grew by %d bytes", verdicts, SECONDS, grown)
    assert verdicts
    assert grown < GROWTH_MAX
