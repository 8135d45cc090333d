"""A sandbox that uses up what it has, or takes a place of ours, gets no more out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.errors import PaddockError
from paddock.sandbox import Capability
from tests.hostile.conftest import RECIPES, WITH_GUEST

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

SOON = 60.0
"""Seconds for a command that takes milliseconds."""

HOLD_DESCRIPTORS = """
import os, time
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print("full", flush=True)
time.sleep(600)
"""
HOLD_CONNECTIONS = """
import os, socket, time
held = []
try:
    while len(held) < 2000:
        guest = socket.socket(socket.AF_UNIX)
        guest.connect("\\0paddock-guest")
        guest.setblocking(False)
        held.append(guest)
except OSError:
    pass
print("full", flush=True)
time.sleep(600)
"""
HOLD_PROCESSES = """
import os, signal, time
try:
    while True:
        if not os.fork():
            signal.pause()
except OSError:
    pass
print("full", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("backend", WITH_GUEST, indirect=True)
async def test_descriptors_that_a_command_has_used_up_are_its_own(sandbox: Sandbox) -> None:
    async with await sandbox.start(["python3", "-c", HOLD_DESCRIPTORS]) as process:
        async for _ in process.output():
            break
        assert (await sandbox.exec("echo alive", timeout=SOON)).stdout == "alive\n"
        await sandbox.fs.write_text("file", "text")
        assert await sandbox.fs.read_text("file") == "text"


@pytest.mark.parametrize("backend", ["docker", "docker-nobody"], indirect=True)
async def test_connections_that_are_held_take_no_descriptor_that_the_guest_needs(
    sandbox: Sandbox,
) -> None:
    async with await sandbox.start(["python3", "-c", HOLD_CONNECTIONS]) as process:
        async for _ in process.output():
            break
        for number in range(20):
            result = await sandbox.exec(f"echo {number}", timeout=SOON)
            assert result.stdout == f"{number}\n"


@pytest.mark.parametrize("backend", RECIPES, indirect=True)
async def test_when_no_process_can_be_made_calls_fail_until_there_is_room(
    sandbox: Sandbox,
) -> None:
    if Capability.LIMIT_PIDS not in sandbox.capabilities:
        pytest.skip("the processes of this sandbox are not limited: it would fill the machine")
    await sandbox.exec("true")
    async with await sandbox.start(["python3", "-c", HOLD_PROCESSES]) as process:
        async for _ in process.output():
            break
        for _ in range(3):
            try:
                result = await sandbox.exec("echo alive", timeout=SOON)
            except (PaddockError, OSError):
                continue
            assert result.stdout == "alive\n" or not result.ok
    assert (await sandbox.exec("echo again", timeout=SOON)).stdout == "again\n"


@pytest.mark.parametrize("backend", WITH_GUEST, indirect=True)
async def test_output_is_spilled_where_no_command_has_put_something_else(sandbox: Sandbox) -> None:
    """The directory is held open: one that takes its name is written nothing to."""
    first = (await sandbox.exec("seq 1000", max_output=100)).out.spill
    assert first is not None
    folder = first.parent
    taken = await sandbox.exec(f"mv {folder} {folder}.away && mkdir -m 777 {folder}")
    result = await sandbox.exec("seq 1000", max_output=100, timeout=SOON)
    assert result.stdout.startswith("1\n")
    assert result.out.dropped
    if taken.ok:
        assert (await sandbox.exec(f"find {folder} -type f")).stdout == ""
    else:
        assert await sandbox.fs.exists(first)
