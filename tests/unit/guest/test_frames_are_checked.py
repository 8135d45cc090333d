"""Whatever a guest sends, its host neither crashes nor waits nor holds more than was granted."""

from __future__ import annotations

import asyncio
import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paddock.backends.guest.channels import FROM_GUEST
from paddock.backends.guest.inside import wire
from paddock.backends.guest.process import UNACKNOWLEDGED_MAX, GuestProcess
from paddock.errors import CommandLost, SandboxClosed, SandboxError, SandboxLost
from paddock.process import Command
from tests.unit.guest.puppet import Puppet, ended

DEADLINE = 60.0


def command(guest: Puppet, *, streamed: bool = False, stdin: bool = False) -> GuestProcess:
    return guest.client.exec(
        Command(
            argv=("program",),
            cwd=PurePosixPath("/"),
            env={},
            stdin=stdin,
            streamed=streamed,
            keep=1024,
        )
    )


async def outcome(work: Any) -> object:
    """The result or the exception of `work`, which must come without anybody's help."""
    try:
        return await asyncio.wait_for(work, DEADLINE)
    except (SandboxError, OSError) as error:
        return error


async def test_output_beyond_the_window_ends_the_guest_and_is_not_kept() -> None:
    guest = Puppet()
    process = command(guest, streamed=True)
    for _ in range(10 * UNACKNOWLEDGED_MAX // wire.PIECE):
        guest.say(wire.STDOUT, 1, bytes(wire.PIECE))
    assert "protocol violation: more output than there was room for" in guest.verdict
    assert sum(len(data) for _, data in process._unread) <= UNACKNOWLEDGED_MAX
    assert isinstance(await outcome(process.wait()), SandboxLost)


async def test_a_window_of_single_bytes_is_kept_in_few_objects() -> None:
    guest = Puppet()
    process = command(guest, streamed=True)
    guest.say_bytes(wire.frame(wire.STDOUT, 1, b"x") * wire.WINDOW)
    assert not guest.verdict
    assert len(process._unread) <= wire.WINDOW // wire.PIECE + 1


async def test_output_that_was_read_makes_room_for_more() -> None:
    guest = Puppet()
    process = command(guest, streamed=True)
    output = process.output()
    for _ in range(20):
        for _ in range(wire.CREDIT_STEP // wire.PIECE):
            guest.say(wire.STDOUT, 1, bytes(wire.PIECE))
            await anext(output)
    guest.reply(1, ended())
    assert [piece async for piece in output] == []
    granted = [int.from_bytes(frame[2], "big") for frame in guest.heard if frame[0] == wire.CREDIT]
    assert not guest.verdict
    assert sum(granted) >= 19 * wire.CREDIT_STEP


async def test_more_output_than_was_to_be_kept_ends_the_guest() -> None:
    guest = Puppet()
    process = command(guest)
    guest.say(wire.STDERR, 1, bytes(1025))
    assert "more output than was asked for" in guest.verdict
    assert isinstance(await outcome(process.wait()), SandboxLost)


async def test_an_answer_of_more_bytes_than_were_asked_for_ends_the_guest() -> None:
    guest = Puppet()
    reading = asyncio.ensure_future(guest.client.request("read", reply_bytes=10, limit=10))
    await asyncio.sleep(0)
    guest.reply(1, {"size": 5}, bytes(11))
    assert "11 bytes answer a request for 10" in guest.verdict
    assert isinstance(await outcome(reading), SandboxLost)


MALFORMED: list[Any] = [
    {"error": "boo"},
    {"error": None},
    {"error": {"errno": "2"}},
    {"error": {"errno": 10**30}},
    {"error": {"errno": -1}},
    {"error": {"errno": True}},
]
MALFORMED_ENDS: list[Any] = [
    *MALFORMED,
    {},
    ended() | {"exit_code": "0"},
    ended() | {"exit_code": 10**400},
    ended() | {"exit_code": -1},
    ended() | {"exit_code": 256},
    ended() | {"exit_code": 1.0},
    ended() | {"exit_code": None},
    ended() | {"duration": "1"},
    ended() | {"duration": -1},
    ended() | {"duration": 1e999},
    ended() | {"duration": float("nan")},
    ended() | {"stdout": None},
    ended() | {"stdout": {"dropped": 10**400}},
    ended() | {"stdout": []},
    ended() | {"stderr": {"dropped": -1}},
    ended() | {"stderr": {"dropped": "many"}},
    ended() | {"stderr": {}},
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: json.dumps(body)[:40])
async def test_a_malformed_answer_to_a_request_ends_the_guest(body: dict[str, Any]) -> None:
    guest = Puppet()
    asking = asyncio.ensure_future(guest.client.request("stat"))
    await asyncio.sleep(0)
    guest.reply(1, body)
    assert "protocol violation" in guest.verdict
    assert isinstance(await outcome(asking), SandboxLost)


@pytest.mark.parametrize("body", MALFORMED_ENDS, ids=lambda body: json.dumps(body)[:60])
async def test_a_malformed_end_of_a_command_ends_the_guest(body: dict[str, Any]) -> None:
    guest = Puppet()
    process = command(guest)
    guest.reply(1, body)
    assert "protocol violation" in guest.verdict
    assert isinstance(await outcome(process.wait()), SandboxLost)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0\0", b"\0\0\0\x09{}", b"\0\0\0\x02[]", b"\0\0\0\x01{", b"\0\0\0\x02\xff\xfe"],
    ids=["empty", "short", "cut", "list", "half", "not UTF-8"],
)
async def test_an_answer_that_is_no_message_ends_the_guest(payload: bytes) -> None:
    guest = Puppet()
    asking = asyncio.ensure_future(guest.client.request("stat"))
    await asyncio.sleep(0)
    guest.say(wire.REPLY, 1, payload)
    assert "protocol violation" in guest.verdict
    assert isinstance(await outcome(asking), SandboxLost)


async def test_frames_of_no_kind_or_on_closed_channels_end_the_guest_soon() -> None:
    for kind in {*range(256)} - FROM_GUEST:
        guest = Puppet()
        guest.say(kind, 7)
        assert "protocol violation" in guest.verdict
    for kind in FROM_GUEST:
        guest = Puppet()
        for _ in range(10):
            guest.say(kind, 7, b"\0\0\0\1")
        assert "protocol violation" in guest.verdict


async def test_closed_channels_leave_room_for_few_late_frames() -> None:
    guest = Puppet()
    for number in range(1, 11):
        asking = asyncio.ensure_future(guest.client.request("stat"))
        await asyncio.sleep(0)
        guest.reply(number, {})
        await asking
    for _ in range(100):
        guest.say(wire.GONE, 3)
    assert "on channel 3, which is closed" in guest.verdict


@pytest.mark.parametrize(
    "frames",
    [
        [(wire.REPLY, wire.message(ended())), (wire.REPLY, wire.message(ended()))] * 3,
        [(wire.STDOUT, b"")],
        [(wire.GONE, b"")],
        [(wire.REPLY, wire.message(ended(background=True))), (wire.STDOUT, b"late")],
        [(wire.REPLY, wire.message(ended(background=True)))] * 2,
        [(wire.STDIN_CREDIT, b"\0\0\0\0")],
        [(wire.STDIN_CREDIT, b"\0\0\0\1")],
        [(wire.STDIN_CREDIT, b"\1")],
        [(wire.STDIN_CLOSED, b""), (wire.STDIN_CLOSED, b"")],
        [(wire.OPENED, b"")],
        [(wire.BYTES, b"x")],
        [(wire.OPEN, b"")],
    ],
)
async def test_frames_that_may_not_come_now_end_the_guest(frames: list[tuple[int, bytes]]) -> None:
    guest = Puppet()
    process = command(guest, streamed=True, stdin=True)
    for kind, payload in frames:
        guest.say(kind, 1, payload)
    assert "protocol violation" in guest.verdict
    await outcome(process.wait())


async def test_heartbeats_that_were_not_sent_are_not_answered() -> None:
    guest = Puppet()
    guest.client.channels.beat()
    await asyncio.sleep(0)
    guest.reply(0, {})
    assert not guest.verdict
    guest.reply(0, {})
    assert "heartbeat" in guest.verdict


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                wire.frame,
                st.sampled_from([*sorted(FROM_GUEST), 1, 99]),
                st.sampled_from([0, 1, 2, 3, 4, wire.GUEST_CHANNELS, wire.GUEST_CHANNELS + 1]),
                st.one_of(
                    st.binary(max_size=12),
                    st.sampled_from([b"\0\0\0\1", wire.message(ended()), wire.message({})]),
                    st.recursive(
                        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                        max_leaves=6,
                    ).map(lambda body: wire.message({"error": body, "exit_code": body})),
                ),
            ),
        ),
        max_size=12,
    )
)
@example([b"\xff" * 20])
def test_no_bytes_are_more_than_a_lost_sandbox(pieces: list[bytes]) -> None:
    async def run() -> None:
        guest = Puppet()
        client = guest.client
        client.tunnels.listen(lambda tunnel: None)
        running = [
            asyncio.ensure_future(outcome(client.request("read", reply_bytes=4))),
            asyncio.ensure_future(outcome(command(guest).wait())),
            asyncio.ensure_future(outcome(command(guest, streamed=True, stdin=True).wait())),
            asyncio.ensure_future(outcome(client.tunnels.dial(80).receive())),
        ]
        await asyncio.sleep(0)
        for piece in pieces:
            guest.say_bytes(piece)
        client.link.close()
        for result in await asyncio.gather(*running):
            assert not isinstance(result, CommandLost)
        with pytest.raises((SandboxLost, SandboxClosed)):
            await client.request("stat")
        assert not asyncio.get_running_loop().is_closed()

    asyncio.run(run())
