"""Pipes that hold more while there is much to send, on real pipes."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside.loop import Guest
from paddock.backends.guest.inside.shield import OomScore
from paddock.backends.guest.inside.streams import hold
from paddock.backends.guest.inside.wire import PIECE, STDOUT, WINDOW, Capture, Frames

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pipes that grow")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def guest(pipe: tuple[int, int]) -> Iterator[Guest]:
    """A guest that is not running, whose host reads from `pipe`."""
    inlet, far = os.pipe()
    guest = Guest(inlet, pipe[1], OomScore())
    yield guest
    guest.selector.close()
    os.close(inlet)
    os.close(far)


def test_a_pipe_grows_and_shrinks_again_once_it_has_been_read(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert hold(writer, WINDOW) == WINDOW
    assert os.write(writer, bytes(WINDOW)) == WINDOW
    assert hold(writer, PIECE) == 0
    os.read(reader, WINDOW)
    assert hold(writer, PIECE) == PIECE


def test_what_is_no_pipe_stays_as_it_is() -> None:
    with socket.socket() as other:
        assert hold(other.fileno(), WINDOW) == 0


def test_a_host_s_pipe_is_narrow_again_when_its_host_has_read_it(
    pipe: tuple[int, int], guest: Guest
) -> None:
    (host,) = guest.hosts
    host.wide = bool(hold(host.outlet, WINDOW))
    os.write(host.outlet, bytes(WINDOW))
    host.narrow()
    assert [host.wide, len(guest.timers)] == [True, 1]
    os.read(pipe[0], WINDOW)
    guest.timers.pop()[2]()
    assert [host.wide, len(guest.timers)] == [False, 0]


def test_a_frame_goes_whole_even_if_its_host_takes_only_a_part_at_once(
    pipe: tuple[int, int], guest: Guest
) -> None:
    (host,) = guest.hosts
    payload = os.urandom(5 * PIECE)
    host.send_bulk(STDOUT, 7, payload)
    host.send_bulk(STDOUT, 7, b"after")
    parser = Frames()
    frames: list[tuple[int, int, bytes]] = []
    while len(frames) < 2:
        frames += parser.feed(os.read(pipe[0], PIECE))
        host.flush()
    assert frames == [(STDOUT, 7, payload), (STDOUT, 7, b"after")]


def test_what_is_not_to_be_kept_takes_no_memory() -> None:
    capture = Capture(0)
    assert capture.feed(bytes(PIECE)) == 0
    assert capture.dropped == PIECE
    assert not capture.tail
