"""Pipes that hold more while there is much to send, on real pipes."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside.outbox import Outbox
from paddock.backends.guest.inside.pipes import set_pipe_size
from paddock.backends.guest.inside.poller import Poller
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
def outbox(pipe: tuple[int, int]) -> Iterator[Outbox]:
    """That of a host which reads from `pipe`; nobody calls back when time has passed."""

    def unexpected() -> None:
        raise AssertionError("neither congested nor broken")

    poller = Poller()
    os.set_blocking(pipe[1], False)
    yield Outbox(poller, pipe[1], seal=None, on_congestion=unexpected, on_broken=unexpected)
    poller.close()


def test_a_pipe_grows_and_shrinks_again_once_it_has_been_read(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert set_pipe_size(writer, WINDOW) == WINDOW
    assert os.write(writer, bytes(WINDOW)) == WINDOW
    assert set_pipe_size(writer, PIECE) == 0
    os.read(reader, WINDOW)
    assert set_pipe_size(writer, PIECE) == PIECE


def test_what_is_no_pipe_stays_as_it_is() -> None:
    with socket.socket() as other:
        assert set_pipe_size(other.fileno(), WINDOW) == 0


def test_a_host_s_pipe_is_narrow_again_when_its_host_has_read_it(
    pipe: tuple[int, int], outbox: Outbox
) -> None:
    outbox.widen()
    os.write(outbox.fd, bytes(WINDOW))
    outbox.narrow()
    assert outbox.wide
    assert outbox.poller.run_timers() is not None
    os.read(pipe[0], WINDOW)
    outbox.narrow()
    assert not outbox.wide


def test_a_frame_goes_whole_even_if_its_host_takes_only_a_part_at_once(
    pipe: tuple[int, int], outbox: Outbox
) -> None:
    payload = os.urandom(5 * PIECE)
    outbox.send_bulk(STDOUT, 7, payload)
    outbox.send_bulk(STDOUT, 7, b"after")
    parser = Frames()
    frames: list[tuple[int, int, bytes]] = []
    while len(frames) < 2:
        frames += parser.feed(os.read(pipe[0], PIECE))
        outbox.flush()
    assert frames == [(STDOUT, 7, payload), (STDOUT, 7, b"after")]


def test_what_is_not_to_be_kept_takes_no_memory() -> None:
    capture = Capture(0)
    assert capture.feed(bytes(PIECE)) == 0
    assert capture.dropped == PIECE
    assert not capture.tail
