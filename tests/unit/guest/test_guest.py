"""A guest as a process, spoken to frame by frame."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.guest.inside import wire
from paddock.backends.guest.inside.supervisors import KEPT
from paddock.backends.guest.inside.trees import children_of
from tests.unit.guest.conftest import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.guest.conftest import RawGuest

    Start = Callable[..., RawGuest]

ORPHAN = "(setsid sh -c 'echo $$; exec sleep 100' &)"
"""Prints its process id and lives on, in another session and with another parent."""


def interpreter(version: str) -> str | None:
    """A working Python of that version, from PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: list[object] = [
        shutil.which(f"python{version}"),
        *pyenv.glob(f"versions/{version}.*/bin/python3"),
    ]
    for program in map(str, filter(None, found)):
        if subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0:
            return program
    return None


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13", "3.14"])
def test_a_guest_runs_on_other_pythons(
    version: str, start_guest: Start, require: Callable[[str, object, str], None]
) -> None:
    python = interpreter(version)
    require(f"python{version}", python, "it is not installed")
    guest = start_guest(python=python)
    assert guest.configured["protocol"] == wire.PROTOCOL
    out, err, reply = guest.output(guest.exec("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (out, err, reply["exit_code"]) == (b"out\n", b"err\n", 3)
    path = guest.folder / "file"
    guest.request("write", b"contents\n", path=str(path), exclusive=False)
    part: dict[str, Any] = {"start": 1, "limit": 5, "width": 80, "most": 1000}
    lines = guest.job("lines", path=str(path), streamed=False, **part)
    assert guest.output(lines)[0] == b'{"lines":["contents"],"total":1,"whole":true}\n'
    search: dict[str, Any] = {
        "pattern": "con",
        "path": str(guest.folder),
        "glob": "f[a-j]l{e,f}",
        "skipped": [],
    }
    search |= {"ignore_case": False, "context": 0, "limit": 5, "most": 1000}
    for path_variable in ("/nowhere", None):
        grep = guest.job("grep", streamed=False, search_path=path_variable, **search)
        assert guest.output(grep)[0].endswith(b'1,"contents",true]\n')
    tree = guest.folder / "tree"
    tree.mkdir()
    (tree / "deep").symlink_to("../tree")
    packed = guest.output(guest.job("pack", path=str(tree), ignore=[], gitignore=False))[0]
    unpack = guest.job("unpack", path=str(guest.folder / "copy"), stdin=True)
    guest.send(wire.DATA, unpack, packed)
    guest.send(wire.EOF, unpack)
    assert guest.reply(unpack)["exit_code"] == 0
    assert os.readlink(guest.folder / "copy" / "deep") == "../tree"
    guest.output(guest.job("remove", path=str(tree), streamed=False))
    assert not tree.exists()


def test_a_command_has_only_its_three_descriptors(guest: RawGuest) -> None:
    look = 'for n in $(seq 0 99); do [ -e /proc/$$/fd/$n ] && printf "$n "; done'
    for stdin in (False, True):
        assert guest.output(guest.exec("sh", "-c", look, stdin=stdin))[0] == b"0 1 2 "


def test_a_command_starts_with_default_signals(guest: RawGuest) -> None:
    out, _, _ = guest.output(guest.exec("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"))
    masks = [int(line.split()[1], 16) for line in out.decode().splitlines()]
    assert [mask % 2**31 for mask in masks] == [0, 0]  # above are the C library's own


def test_a_command_that_kills_its_supervisor_takes_its_tree_along(guest: RawGuest) -> None:
    channel = guest.exec("sh", "-c", f"{ORPHAN}; read x; kill -9 $PPID; sleep 100", stdin=True)
    orphan = int(guest.line(channel))
    guest.send(wire.EOF, channel)
    reply = guest.reply(channel)
    assert reply["error"]["kind"] == "Killed"
    guest.gone(orphan)
    assert guest.output(guest.exec("echo", "on"))[0] == b"on\n"


def test_supervisors_that_were_killed_while_idle_are_replaced(guest: RawGuest) -> None:
    supervisor = int(guest.output(guest.exec("sh", "-c", "echo $PPID"))[0])
    for number in (signal.SIGKILL, signal.SIGSTOP):
        os.kill(supervisor, number)
        if number == signal.SIGKILL:
            guest.gone(supervisor)
        channel = guest.exec("sh", "-c", "echo $PPID")
        if number == signal.SIGSTOP:
            guest.kill(channel)
            guest.frame(wire.GONE, channel)
            channel = guest.exec("sh", "-c", "echo $PPID")
        supervisor = int(guest.output(channel)[0])


def test_supervisors_of_many_commands_at_once_are_kept_while_they_are_needed(
    guest: RawGuest,
) -> None:
    def at_once() -> list[int]:
        channels = [guest.exec("sh", "-c", "echo $PPID; read x", stdin=True) for _ in range(20)]
        pids = [int(guest.line(channel)) for channel in channels]
        for channel in channels:
            guest.send(wire.EOF, channel)
            guest.reply(channel)
        return pids

    burst = at_once()
    assert len(set(burst)) == 20
    assert set(at_once()) == set(burst)
    deadline = time.monotonic() + DEADLINE
    while len(kept := children_of(guest.process.pid)) > KEPT:
        assert time.monotonic() < deadline, f"{len(kept)} are kept with nothing to do"
        time.sleep(0.01)
    assert len(kept) == KEPT
    assert set(kept) < set(burst)


def test_a_command_that_stops_its_supervisor_can_be_killed(guest: RawGuest) -> None:
    channel = guest.exec("sh", "-c", "echo x; kill -STOP $PPID; sleep 100")
    guest.line(channel)
    guest.kill(channel, grace=0.1)
    assert guest.reply(channel)["exit_code"] == 128 + signal.SIGTERM
    guest.frame(wire.GONE, channel)


@pytest.mark.parametrize("end", ["eof", "garbage", "unknown kind", "oversize", "SIGTERM", "crash"])
def test_a_guest_that_ends_leaves_no_process(guest: RawGuest, end: str) -> None:
    channel = guest.exec("sh", "-c", f"trap '' TERM; {ORPHAN}; echo $$; sleep 100 & wait")
    text = ""
    while text.count("\n") < 2:
        text += guest.frame(wire.STDOUT, channel).decode()
    endings: dict[str, Callable[[], object]] = {
        "eof": guest.socket.close,
        "garbage": lambda: guest.send(wire.REQUEST, 7, b"\0\0\0\2[]"),
        "unknown kind": lambda: guest.send(99, channel),
        "oversize": lambda: guest.socket.sendall(wire.HEADER.pack(wire.MAX_FRAME + 1, 1, 1)),
        "SIGTERM": guest.process.terminate,
        "crash": guest.process.kill,
    }
    endings[end]()
    guest.process.wait(10)
    for pid in text.split():
        guest.gone(int(pid))
    assert bool(guest.log.read_text()) == (end in ("garbage", "unknown kind", "oversize"))


def test_an_interrupt_from_the_terminal_is_not_for_the_guest(guest: RawGuest) -> None:
    guest.process.send_signal(signal.SIGINT)
    assert guest.output(guest.exec("echo", "on"))[0] == b"on\n"


def test_a_kill_for_a_channel_that_has_ended_is_answered(guest: RawGuest) -> None:
    channel = guest.exec("true")
    guest.reply(channel)
    guest.kill(channel)
    guest.frame(wire.GONE, channel)


def test_a_command_that_ended_with_output_that_nobody_reads_can_be_killed(guest: RawGuest) -> None:
    channel = guest.exec("head", "-c", str(wire.WINDOW + 100_000), "/dev/zero")
    got = 0
    while got < wire.WINDOW:
        got += len(guest.frame(wire.STDOUT, channel))
    guest.kill(channel, grace=60)
    guest.frame(wire.GONE, channel)
    assert guest.reply(channel)["exit_code"] in (0, 128 + signal.SIGTERM)


def test_no_more_than_a_window_is_sent_without_credit(guest: RawGuest) -> None:
    channel = guest.exec("cat", "/dev/zero")
    got = 0
    while got < wire.WINDOW:
        got += len(guest.frame(wire.STDOUT, channel))
    guest.request("stat", path="/")
    assert got < wire.WINDOW + wire.PIECE
    assert not any(frame[0] == wire.STDOUT for frame in guest.unread)
    guest.send(wire.CREDIT, channel, wire.LENGTH.pack(wire.PIECE))
    guest.frame(wire.STDOUT, channel)
    guest.kill(channel)
    guest.frame(wire.GONE, channel)


def test_output_that_is_collected_may_be_longer_than_a_frame(guest: RawGuest) -> None:
    size = 2 * wire.MAX_FRAME
    channel = guest.exec("head", "-c", str(3 * size), "/dev/zero", streamed=False, keep=size)
    out, _, reply = guest.output(channel, credit=False)
    assert len(out) == size
    assert reply["stdout"]["dropped"] == 2 * size
    assert Path(reply["stdout"]["spill"]).stat().st_size == 3 * size


@pytest.mark.parametrize("streamed", [True, False])
def test_the_head_and_tail_of_much_output_are_told_and_all_of_it_is_spilled(
    guest: RawGuest, streamed: bool
) -> None:
    channel = guest.exec("seq", "100000", streamed=streamed, keep=1001)
    out, _, reply = guest.output(channel, credit=streamed)
    whole = b"".join(b"%d\n" % number for number in range(1, 100_001))
    assert out == (whole if streamed else whole[:501] + whole[-500:])
    assert reply["stdout"]["dropped"] == len(whole) - 1001
    assert Path(reply["stdout"]["spill"]).read_bytes() == whole
    assert not reply["stdout"]["spill_truncated"]
    assert reply["stderr"] == {"dropped": 0}


def test_a_job_spills_nothing(guest: RawGuest) -> None:
    path = guest.folder / "big"
    path.write_bytes(os.urandom(3_000_000))
    out, _, reply = guest.output(guest.job("send", path=str(path)))
    assert out == path.read_bytes()
    assert "spill" not in reply["stdout"]
    assert list((guest.folder / "output").iterdir()) == []


def test_a_signal_right_after_the_start_is_not_lost(guest: RawGuest) -> None:
    for _ in range(20):
        channel = guest.exec("sleep", "100")
        guest.send(wire.SIGNAL, channel, wire.PAIR.pack(signal.SIGUSR1, wire.FOREGROUND))
        assert guest.reply(channel)["exit_code"] == 128 + signal.SIGUSR1


def test_a_kill_right_after_the_start_ends_a_command_as_it_comes(guest: RawGuest) -> None:
    for _ in range(5):
        channel = guest.exec("sleep", "100")
        guest.kill(channel, grace=60)
        assert guest.reply(channel)["exit_code"] == 128 + signal.SIGTERM
        guest.frame(wire.GONE, channel)


def test_a_job_that_is_killed_before_it_has_started_tidies_up_too(guest: RawGuest) -> None:
    supervisor = int(guest.output(guest.exec("sh", "-c", "echo $PPID"))[0])
    for _ in range(20):
        os.kill(supervisor, signal.SIGSTOP)  # so it takes its order only after the kill
        path = str(guest.folder / "into" / "file")
        channel = guest.job("receive", stdin=True, path=path, size=10, mode=0o644)
        guest.send(wire.DATA, channel, b"half")
        guest.kill(channel, grace=60)
        guest.request("ping")
        os.kill(supervisor, signal.SIGCONT)
        guest.frame(wire.GONE, channel)
        assert not list(guest.folder.glob("into/*"))


def test_a_background_tree_is_told_and_its_end_too(guest: RawGuest) -> None:
    channel = guest.exec("sh", "-c", "cat >&2 <&3 & wait; echo x", stdin=True)
    assert guest.output(channel)[2]["background"] is False  # `cat` had no descriptor 3
    channel = guest.exec("sh", "-c", "sleep 1 & echo x")
    assert guest.output(channel)[2]["background"] is True
    guest.frame(wire.GONE, channel)


def test_a_background_child_that_goes_on_writing_is_not_stopped_by_it(guest: RawGuest) -> None:
    done = guest.folder / "done"
    writer = f"head -c 3000000 /dev/zero; touch {done}"
    channel = guest.exec("sh", "-c", f"(sleep 0.2; {writer}) & echo x", streamed=False, keep=100)
    assert guest.output(channel, credit=False)[0] == b"x\n"
    guest.frame(wire.GONE, channel)
    assert done.exists()


def test_output_held_open_by_a_stranger_does_not_hold_the_answer(guest: RawGuest) -> None:
    channel = guest.exec("sh", "-c", "echo $$; read x", stdin=True)
    pid = int(guest.line(channel))
    holder = guest.exec("sh", "-c", f"exec 3>/proc/{pid}/fd/1; echo $$; read x", stdin=True)
    guest.line(holder)
    guest.send(wire.EOF, channel)
    reply = guest.reply(channel)
    assert reply["background"] is False
    assert reply["duration"] < 5
    guest.send(wire.EOF, holder)
    guest.reply(holder)


def test_too_many_commands_at_once_are_refused_and_leave_nothing(start_guest: Start) -> None:
    guest = start_guest(prefix=["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"])
    guest.output(guest.exec("true"))
    descriptors = Path(f"/proc/{guest.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    channels = [guest.exec("sleep", "100", stdin=True) for _ in range(30)]
    guest.request("stat", path="/")
    replies = {frame[1]: wire.parse_message(frame[2])[0] for frame in guest.unread}
    assert 5 < len(replies) < 25
    assert {reply["error"]["text"] for reply in replies.values()} == {"Too many commands at once"}
    for channel in channels:
        guest.kill(channel)
        guest.frame(wire.GONE, channel)
    assert guest.output(guest.exec("echo", "on"))[0] == b"on\n"
    supervisors = 30 - len(replies)  # which are kept for the next
    assert len(list(descriptors.iterdir())) <= before + supervisors


def test_what_the_guest_adopts_is_reaped(guest: RawGuest) -> None:
    guest.reply(guest.exec("sh", "-c", "sleep 100 & kill -9 $PPID; sleep 100"))
    children = Path(f"/proc/{guest.process.pid}/task/{guest.process.pid}/children")
    assert children.read_text().split() == []


@pytest.mark.parametrize(
    ("operation", "arguments", "error"),
    [
        ("nonsense", {}, {"kind": "KeyError", "text": "'nonsense'"}),
        ("read", {"path": "/\0", "offset": 0, "limit": 1}, {"kind": "ValueError"}),
        ("read", {"path": "/dev/zero", "offset": 0, "limit": 1}, {"errno": 22}),
        ("read", {"path": "/", "offset": 0, "limit": 1}, {"errno": 21, "path": "/"}),
        (
            "configure",
            {"limits": {"RLIMIT_X": 1}, "spill_dir": "/", "lease": None},
            {"kind": "AttributeError"},
        ),
    ],
)
def test_a_failed_request_is_told(
    guest: RawGuest, operation: str, arguments: dict[str, Any], error: dict[str, Any]
) -> None:
    told = guest.request(operation, **arguments)["error"]
    assert told.items() >= error.items()


def test_a_command_in_a_missing_directory_and_a_missing_program_are_told_apart(
    guest: RawGuest,
) -> None:
    channel = guest.ask(
        "exec", argv=["true"], env={}, cwd="/missing", stdin=False, streamed=True, keep=0
    )
    assert guest.reply(channel)["error"]["errno"] == 2
    _, err, reply = guest.output(guest.exec("missing-program"))
    assert (err, reply["exit_code"]) == (b"missing-program: command not found\n", 127)
    (guest.folder / "not-executable").touch()
    _, _, reply = guest.output(guest.exec("./not-executable"))
    assert reply["exit_code"] == 126


def test_stdin_is_acknowledged_and_closed(guest: RawGuest) -> None:
    channel = guest.exec("sh", "-c", f"head -c {wire.WINDOW} | wc -c", stdin=True)
    guest.send(wire.DATA, channel, bytes(wire.WINDOW))
    taken = 0
    while taken <= wire.WINDOW - wire.CREDIT_STEP:
        credit = wire.LENGTH.unpack(guest.frame(wire.STDIN_CREDIT, channel))[0]
        assert credit >= wire.CREDIT_STEP
        taken += credit
    assert guest.line(channel) == str(wire.WINDOW)
    guest.reply(channel)
    closing = guest.exec("sh", "-c", "exec <&-; echo closed; sleep 100", stdin=True)
    guest.line(closing)
    guest.send(wire.DATA, closing, b"x")
    guest.frame(wire.STDIN_CLOSED, closing)
    guest.kill(closing)
    guest.frame(wire.GONE, closing)
