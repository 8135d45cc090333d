"""`FakeBackend`: scripted commands, faults to order, a small shell, files, ports."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import CommandLost, ConfigError, ExecTimeout, SandboxError, SandboxLost
from paddock.testing import FakeBackend, FakeCall, FakeSandbox, Fault, FaultOrder, Reply
from tests.contract.test_files_as_pathlib import PROGRAM, compare

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Require


async def test_commands_answer_as_the_script_says() -> None:
    def blocking(call: FakeCall) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"{call.text} in {call.cwd} with {call.env['A']}"

    async def talking(call: FakeCall) -> Reply:
        return Reply(stdout=(await call.stdin())[::-1], stderr="done", exit_code=4)

    commands: dict[str, Any] = {"make *": "built\n", "lint": 3, "where": blocking, "rev *": talking}
    async with FakeBackend(commands=commands).sandbox() as sandbox:
        assert (await sandbox.exec("make all")).stdout == "built\n"
        assert (await sandbox.exec(["make", "two words"])).stdout == "built\n"
        assert (await sandbox.exec("lint")).exit_code == 3
        told = await sandbox.exec("where", env={"A": "1"}, cwd="/tmp")
        assert told.stdout == "where in /tmp with 1"
        turned = await sandbox.exec("rev -", stdin="abc")
        assert (turned.stdout, turned.stderr, turned.exit_code) == ("cba", "done", 4)
        assert (await sandbox.exec("cd /tmp && make it | wc -l")).stdout == "1\n"
        assert isinstance(sandbox, FakeSandbox)
        assert sandbox.calls[:2] == ["make all", "make 'two words'"]


async def test_an_error_of_the_script_is_the_commands_error() -> None:
    def broken(call: FakeCall) -> str:
        raise LookupError("no answer")

    late = Reply(after=1000)
    commands: dict[str, Any] = {"broken": broken, "odd": lambda _: object(), "late": late}
    async with FakeBackend(commands=commands).sandbox() as sandbox:
        with pytest.raises(LookupError, match="no answer"):
            await sandbox.exec("broken")
        with pytest.raises(ConfigError, match="the answer to 'odd' is <object"):
            await sandbox.exec("odd")
        with pytest.raises(ExecTimeout):
            await sandbox.exec("late", timeout=0.05)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("echo \"a  $X\" 'b $X' c\\ d; X=2; echo $X${X}", "a  1 b $X c d\n22\n"),
        ("false && echo no || echo yes; true || echo no; echo $?", "yes\n0\n"),
        ("echo one > f; echo two >> f; cat < f | head -c 5; cat f >&2 2>&1", "one\nt"),
        ("seq 3 | wc -l; printf '%s-%s\\n' a b; [ -f none ] || echo none", "3\na-b\nnone\n"),
        ("read x; echo got $x; X=3 env | wc -c > /dev/null; cd /tmp; pwd", "got in\n/tmp\n"),
        ("mkdir -p d/e; ln -s e d/l; touch d/l/f; ls d/e; readlink d/l; rm -r d; ls", "f\ne\n"),
        ("sleep 100 & kill $!; exec echo on # and no more", "on\n"),
    ],
)
async def test_the_small_shell_does_what_a_shell_does(line: str, shown: str) -> None:
    async with FakeBackend(env_vars={"X": "1"}).sandbox() as sandbox:
        assert (await sandbox.exec(line, stdin="in\nmore")).stdout == shown


@pytest.mark.parametrize("line", ["for x in a; do :; done", "echo $(ls)", "echo 'open", "(ls)"])
async def test_what_the_shell_does_not_know_is_said(line: str) -> None:
    async with FakeBackend().sandbox() as sandbox:
        result = await sandbox.exec(line)
    assert result.exit_code == 2
    assert result.stderr.startswith("sh: ")


async def test_faults_happen_to_order() -> None:
    faults = [
        FaultOrder(fault=Fault.CREATE_FAILS, times=1),
        FaultOrder(fault=Fault.STREAM_BROKEN, on="echo much", times=1),
        FaultOrder(fault=Fault.COMMAND_LOST, on="echo lost"),
        FaultOrder(fault=Fault.DISK_FULL, on="*/full", times=1),
        FaultOrder(fault=Fault.SLOW, on="echo slow", seconds=1000),
        FaultOrder(fault=Fault.DIES, on="halt"),
        FaultOrder(fault=Fault.CLOSE_FAILS, times=1),
    ]
    backend = FakeBackend(faults=faults)
    with pytest.raises(SandboxError, match="no sandbox could be made"):
        await backend.create()
    sandbox = await backend.create()
    with pytest.raises(SandboxLost, match="its stream broke"):
        await sandbox.exec("echo much")
    assert (await sandbox.exec("echo much")).stdout == "much\n"
    with pytest.raises(CommandLost):
        await sandbox.exec("echo lost")
    with pytest.raises(OSError, match="space") as full:
        await sandbox.fs.write_text("full", "x")
    assert full.value.errno == errno.ENOSPC
    await sandbox.fs.write_text("full", "x")
    with pytest.raises(ExecTimeout):
        await sandbox.exec("echo slow", timeout=0.05)
    with pytest.raises(SandboxLost, match="to order"):
        await sandbox.exec("halt")
    with pytest.raises(SandboxLost):
        await sandbox.fs.list()
    with pytest.raises(SandboxError, match="could not be removed"):
        await sandbox.aclose()
    await sandbox.aclose()
    assert await backend.list() == []


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ConfigError, match="faults: 'flood': give one of create_fails, "):
        FakeBackend(faults=["flood"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"fault": "flood"}, "faults: 'flood': give one of create_fails, "),
        ({"fault": Fault.DIES, "times": "2"}, "times='2': give a whole number"),
        ({"fault": Fault.DIES, "times": -1}, "times=-1: give a whole number"),
        ({"fault": Fault.DIES, "on": 3}, "on=3: give text"),
    ],
)
def test_an_order_that_is_none_is_refused(order: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FaultOrder(**order)


async def test_an_order_takes_the_name_of_a_fault() -> None:
    order = FaultOrder(fault="dies")  # type: ignore[arg-type]
    async with FakeBackend(faults=[order]).sandbox() as sandbox:
        with pytest.raises(SandboxLost):
            await sandbox.exec("true")


@pytest.mark.parametrize("on", ["data/*", "/work/data/*"])
async def test_a_disk_is_full_for_paths_of_either_kind(on: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("sent")
    order = FaultOrder(fault=Fault.DISK_FULL, on=on)
    async with FakeBackend(faults=[order]).sandbox() as sandbox:
        for path in ("data/x", "/work/data/x"):
            with pytest.raises(OSError, match="space"):
                await sandbox.fs.write_text(path, "x")
        with pytest.raises(OSError, match="space"):
            await sandbox.fs.upload(tmp_path, "data")
        await sandbox.fs.write_text("other", "x")


@pytest.mark.parametrize(
    "fields",
    [
        {"commands": {"make": None}},
        {"commands": ["make"]},
        {"commands": {3: "done"}},
        {"files": {"notes": 3}},
        {"ports": {"http": print}},
        {"ports": {80: "text"}},
    ],
)
def test_a_script_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^(commands|files|ports).*: give "):
        FakeBackend(**fields)


async def test_a_port_is_served_by_a_function() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()

    def fetch(url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    async with FakeBackend(ports={8000: serve}).sandbox() as sandbox:
        url = await sandbox.url(8000)
        assert await sandbox.url(8000) == url
        assert await asyncio.to_thread(fetch, url) == b"hi"
        with pytest.raises(OSError, match=r"closed|reset"):
            await asyncio.to_thread(fetch, await sandbox.url(8001))
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, url)


async def test_a_fork_has_files_of_its_own() -> None:
    async with FakeBackend(files={"f": "one"}).sandbox() as sandbox:
        (fork,) = await sandbox.fork()
        async with fork:
            await fork.fs.write_text("f", "two")
            assert await sandbox.fs.read_text("f") == "one"


async def test_errors_of_files_are_those_of_pathlib(tmp_path: Path, require: Require) -> None:
    require("root", os.getuid() == 0, "pathlib has to be allowed everything, as a fake is")

    async def on_this_machine(call: FakeCall) -> Reply:
        """Run pathlib here, and give the fake the same tree as it was made for us."""
        sources = await call.stdin()
        command = [sys.executable, "-c", PROGRAM]
        done = await asyncio.to_thread(
            subprocess.run, command, input=sources, cwd=tmp_path, capture_output=True, check=True
        )
        await sandbox.fs.upload(tmp_path / "ours", "ours", ignore=())
        return Reply(stdout=done.stdout)

    async with FakeBackend(commands={"python3 *": on_this_machine}).sandbox() as sandbox:
        await compare(sandbox)


async def test_two_equal_orders_happen_twice() -> None:
    order = FaultOrder(fault=Fault.CREATE_FAILS, times=1)
    backend = FakeBackend(faults=[order, order])
    for _ in range(2):
        with pytest.raises(SandboxError, match="to order"):
            await backend.create()
    async with backend.sandbox() as sandbox:
        assert (await sandbox.exec("true")).ok
