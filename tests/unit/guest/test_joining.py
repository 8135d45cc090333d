"""Commands that are joined by their ids: what a guest keeps and sends, and what its host takes."""

from __future__ import annotations

import asyncio
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.guest.answers import process_infos
from paddock.backends.guest.inside import roster, wire
from paddock.errors import CommandLost, SandboxLost
from paddock.process import Command
from tests.unit.guest.puppet import Puppet, ended

if TYPE_CHECKING:
    from paddock.backends.guest.process import GuestProcess
    from tests.unit.guest.conftest import RawGuest

DEADLINE = 60.0
ID = "0123456789ab"
NOTHING = {"head": 0, "dropped": 0, "tail": 0}


# the guest


def _begin(guest: RawGuest, script: str, **more: Any) -> int:
    return guest.ask(
        "exec",
        argv=["sh", "-c", script],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=True,
        streamed=True,
        keep=100,
        id=ID,
        **more,
    )


def _adopt(guest: RawGuest) -> int:
    return guest.ask("adopt", id=ID, keep=100)


def test_the_slowest_host_holds_a_command_up_until_it_leaves(guest: RawGuest) -> None:
    first = _begin(guest, "echo on; read x; head -c 3000000 /dev/zero")
    guest.line(first)
    slow = _adopt(guest)
    guest.frame(wire.REPLAY, slow)
    guest.send(wire.DATA, first, b"\n")
    got = 0
    while got < wire.WINDOW:
        got += len(guest.frame(wire.STDOUT, first))
        guest.send(wire.CREDIT, first, wire.LENGTH.pack(wire.PIECE))
    assert got < wire.WINDOW + wire.BULK
    guest.send(wire.LEAVE, slow)
    assert guest.frame(wire.LEFT, slow) == b""
    rest, _, reply = guest.output(first)
    assert got + len(rest) == 3000000
    assert reply["exit_code"] == 0


def test_a_ninth_host_is_refused_and_the_command_is_not_touched(guest: RawGuest) -> None:
    first = _begin(guest, "read x; exit 4")
    for _ in range(roster.JOINED_MAX - 1):
        guest.frame(wire.REPLAY, _adopt(guest))
    assert guest.reply(_adopt(guest))["error"]["errno"] == 16
    guest.send(wire.DATA, first, b"\n")
    assert guest.reply(first)["exit_code"] == 4


def test_leaving_a_channel_that_is_over_is_answered(guest: RawGuest) -> None:
    channel = guest.exec("true")
    guest.reply(channel)
    guest.send(wire.LEAVE, channel)
    assert guest.frame(wire.LEFT, channel) == b""


def test_a_long_program_is_listed_cut(guest: RawGuest) -> None:
    channel = _begin(guest, "read x #" + "é" * 10_000, detached=True)
    (found,) = guest.request("processes")["processes"]
    assert len("".join(found["argv"])) <= roster.ARGV_CHARACTERS
    assert (found["id"], found["exit_code"], found["detached"]) == (ID, None, True)
    guest.kill(channel)
    guest.frame(wire.GONE, channel)


class Over(roster.Listed):
    """A command that has ended with so much output kept."""

    detached, status, background, has_terminal = True, 0, False, False
    exit_code = 0

    def __init__(self, number: int, size: int = 0) -> None:
        self.entry = roster.Entry({"id": f"{number:012x}", "argv": ["true"]})
        self.started = float(number)
        self.size = size

    @property
    def kept_bytes(self) -> int:
        return self.size

    def forget_output(self) -> None:
        self.size = 0


def test_what_has_ended_is_kept_within_bounds_and_its_exit_code_longest() -> None:
    kept = roster.Roster()
    size = roster.KEPT_BYTES // 4
    commands = [Over(number, size) for number in range(10)]
    for command in commands:
        kept.on_over(command)
    left = [one.size for one in commands]
    assert left == [0] * 6 + [size] * 4
    assert len(kept.describe()) == 10
    for number in range(10, roster.LISTED + 5):
        kept.on_over(Over(number))
    listed = [one["id"] for one in kept.describe()]
    assert listed == [f"{number:012x}" for number in range(5, roster.LISTED + 5)]
    with pytest.raises(ProcessLookupError):
        kept.find(f"{0:012x}")


@pytest.mark.parametrize("keep", range(9))
@pytest.mark.parametrize("printed", [b"", b"abc", b"abcdef", b"abcdefghij"])
def test_an_excerpt_is_the_beginning_and_the_end_of_what_is_kept(printed: bytes, keep: int) -> None:
    capture = wire.Capture(6)
    capture.feed(printed)
    head, tail = capture.excerpt(keep)
    assert len(head + tail) == min(keep, 6, len(printed))
    assert printed.startswith(head)
    assert printed.endswith(tail)


# its host


async def _joined(guest: Puppet, body: Any, blob: bytes = b"") -> Any:
    """What joining comes to when the guest replays this."""
    joining = asyncio.ensure_future(guest.client.join(ID, 100))
    await asyncio.sleep(0)
    guest.say(wire.REPLAY, 1, wire.message(body, blob))
    try:
        return await asyncio.wait_for(joining, DEADLINE)
    except SandboxLost as error:
        return error


def _replay(**sizes: Any) -> dict[str, Any]:
    return {"stdin": True, "pty": False, "stdout": NOTHING | sizes, "stderr": NOTHING}


FORGED: list[Any] = [
    (_replay(head=51, tail=50), bytes(101)),
    (_replay(head=10), b""),
    (_replay(), bytes(1)),
    (_replay(head=-1), b""),
    (_replay(dropped=-1), b""),
    (_replay(dropped=2**63), b""),
    (_replay(head=True), b"x"),
    (_replay(head="1"), b"x"),
    (_replay(tail=1.0), b"x"),
    ({"stdout": None}, b""),
    ({"stdout": {}}, b""),
    ({"stderr": [0, 0, 0]}, b""),
]


@pytest.mark.parametrize(("body", "blob"), FORGED, ids=lambda part: str(part)[:40])
async def test_a_forged_replay_ends_the_guest(body: Any, blob: bytes) -> None:
    guest = Puppet()
    assert isinstance(await _joined(guest, body, blob), SandboxLost)
    assert "protocol violation" in guest.verdict


async def test_output_before_the_replay_and_a_second_one_end_the_guest() -> None:
    guest = Puppet()
    joining = asyncio.ensure_future(guest.client.join(ID, 100))
    await asyncio.sleep(0)
    guest.reply(1, ended())
    assert "before what was printed earlier" in guest.verdict
    with pytest.raises(SandboxLost):
        await joining
    guest = Puppet()
    await _joined(guest, _replay())
    guest.say(wire.REPLAY, 1, wire.message(_replay()))
    assert "a command has no use for" in guest.verdict


async def test_what_is_replayed_makes_no_room_in_the_window() -> None:
    guest = Puppet()
    process = await _joined(guest, _replay(head=60, dropped=7, tail=40), b"a" * 60 + b"b" * 40)
    output = process.output()
    assert await anext(output) == ("stdout", b"a" * 60 + b"b" * 40)
    for _ in range(wire.WINDOW // wire.PIECE):
        guest.say(wire.STDOUT, 1, bytes(wire.PIECE))
        await anext(output)
    granted = sum(
        int.from_bytes(frame[2], "big") for frame in guest.heard if frame[0] == wire.CREDIT
    )
    assert granted <= wire.WINDOW
    guest.reply(1, ended())
    result = await process.wait()
    assert (process.missed, result.out.total) == (7, 107 + wire.WINDOW)
    assert not guest.verdict


async def test_giving_up_to_join_leaves_the_command() -> None:
    guest = Puppet()
    joining = asyncio.ensure_future(guest.client.join(ID, 100))
    await asyncio.sleep(0)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert [frame[0] for frame in guest.heard] == [wire.REQUEST, wire.LEAVE]
    guest.say(wire.REPLAY, 1, wire.message(_replay(head=3), b"abc"))
    guest.say(wire.LEFT, 1)
    assert not guest.verdict


async def test_what_comes_after_leaving_is_dropped_until_the_guest_has_heard_of_it() -> None:
    guest = Puppet()
    process: GuestProcess = guest.client.exec(
        Command(argv=("x",), cwd=PurePosixPath("/"), env={}, stdin=True, detached=True)
    )
    await process.aclose()
    await process.aclose()
    await process.kill()
    assert [frame[0] for frame in guest.heard] == [wire.REQUEST, wire.LEAVE]
    for _ in range(3 * wire.WINDOW // wire.PIECE):
        guest.say(wire.STDOUT, 1, bytes(wire.PIECE))
    assert not process._unread
    guest.say(wire.LEFT, 1)
    assert not guest.verdict
    with pytest.raises(CommandLost, match="join"):
        await process.wait()
    with pytest.raises(BrokenPipeError):
        await process.send(b"x")


ENTRY: dict[str, Any] = {
    "id": ID,
    "argv": ["true"],
    "user": None,
    "age": 1.5,
    "exit_code": None,
    "background": False,
    "pty": False,
    "detached": True,
}
FORGED_LISTS: list[Any] = [
    None,
    {},
    "x",
    [None],
    [{}],
    [ENTRY] * 1001,
    [ENTRY | {"id": "\x1b[2J"}],
    [ENTRY | {"id": 5}],
    [ENTRY | {"argv": "true"}],
    [ENTRY | {"argv": [1]}],
    [ENTRY | {"age": -1}],
    [ENTRY | {"age": 1e300}],
    [ENTRY | {"age": float("nan")}],
    [ENTRY | {"age": True}],
    [ENTRY | {"exit_code": 256}],
    [ENTRY | {"exit_code": False}],
    [ENTRY | {"user": 0}],
    [ENTRY | {"pty": None}],
]


@pytest.mark.parametrize("forged", FORGED_LISTS, ids=lambda body: json.dumps(body)[:40])
def test_a_forged_list_is_refused(forged: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        process_infos({"processes": forged})


def test_an_honest_list_is_read() -> None:
    (found,) = process_infos({"processes": [ENTRY]})
    assert (found.id, found.argv, found.exit_code, found.detached) == (ID, ("true",), None, True)
