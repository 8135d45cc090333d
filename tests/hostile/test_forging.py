"""No process of a sandbox opens what carries the results of commands, or the memory behind it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.hostile.conftest import RECIPES

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

OPEN_ALL = r"""
import json, os, sys

OURS = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != os.getpid()]
opened = []


def attempt(path, flags):
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
    except OSError:
        return
    opened.append(path)


for pid in OURS:
    for number in range(64):
        for folder in (f"/proc/{pid}", f"/proc/{pid}/task/{pid}"):
            attempt(f"{folder}/fd/{number}", os.O_WRONLY)
            attempt(f"{folder}/fd/{number}", os.O_RDONLY)
    attempt(f"/proc/{pid}/mem", os.O_RDWR)
    attempt(f"/proc/{pid}/mem", os.O_RDONLY)
    attempt(f"/proc/{pid}/environ", os.O_RDONLY)
json.dump({"looked at": OURS, "opened": opened}, sys.stdout)
"""
TRACE_ALL = r"""
import ctypes, json, os, sys

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PIDFD_GETFD = 0x4206, 438


class Span(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]


libc.ptrace.argtypes = [ctypes.c_long] * 2 + [ctypes.c_void_p] * 2
room = ctypes.create_string_buffer(8)
here = Span(ctypes.addressof(room), 8)
done = []
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    if pid == os.getpid():
        continue
    if libc.ptrace(PTRACE_SEIZE, pid, 0, 0) == 0:
        done.append(f"traced {pid}")
    there = Span(0x400000, 8)
    for call in (libc.process_vm_readv, libc.process_vm_writev):
        call(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        # EFAULT: it may, and only this address is none.
        if ctypes.get_errno() in (0, 14):
            done.append(f"memory of {pid}")
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:  # another process of this machine, which has ended meanwhile
        continue
    for number in range(64):
        if libc.syscall(PIDFD_GETFD, handle, number, 0) >= 0:
            done.append(f"descriptor {number} of {pid}")
json.dump(done, sys.stdout)
"""


@pytest.mark.parametrize("backend", RECIPES, indirect=True)
async def test_no_descriptor_and_no_memory_of_another_process_can_be_opened(
    sandbox: Sandbox,
) -> None:
    await asyncio.gather(*(sandbox.exec("true") for _ in range(3)))  # some supervisors, kept
    result = await sandbox.exec(["python3", "-c", OPEN_ALL], timeout=30, check=True)
    seen = json.loads(result.stdout)
    assert seen["looked at"]
    assert seen["opened"] == []


@pytest.mark.parametrize("backend", RECIPES, indirect=True)
async def test_no_process_can_be_traced_and_none_gives_a_descriptor_away(sandbox: Sandbox) -> None:
    result = await sandbox.exec(["python3", "-c", TRACE_ALL], timeout=30, check=True)
    assert json.loads(result.stdout) == []


SCRIBBLE = r"""
import contextlib, os, sys

RELAY_BUFFER_ABOVE = 3  # a supervisor and the guest are between
above = [os.getpid()]
for _ in range(RELAY_BUFFER_ABOVE):
    with open(f"/proc/{above[-1]}/stat") as file:
        above.append(int(file.read().rpartition(")")[2].split()[1]))
own = {os.readlink(f"/proc/self/fd/{number}") for number in range(3)}
for pid in above[1:]:
    for number in range(64):
        path = f"/proc/{pid}/fd/{number}"
        with contextlib.suppress(OSError):
            if os.readlink(path) not in own:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.write(fd, b"hello\n")
with open(f"/proc/{above[RELAY_BUFFER_ABOVE]}/cmdline", "rb") as file:
    sys.stdout.buffer.write(file.read().strip(b"\0"))
"""


@pytest.mark.parametrize("backend", ["daytona"], indirect=True)
async def test_neither_the_wire_nor_the_key_of_daytona_s_relay_is_for_others(
    sandbox: Sandbox,
) -> None:
    # The server of the tests runs commands as its own user, which may be this machine's root.
    result = await sandbox.exec(["python3", "-c", SCRIBBLE], timeout=30, check=True)
    assert result.stdout == ""
    assert (await sandbox.exec("echo alive", timeout=30)).stdout == "alive\n"
