"""Sessions as another process sees them: what runs, what was meant, what is appended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.cli import following
from paddock.cli.following import follow
from paddock.cli.monitor import Monitor
from paddock.cli.steering import choose, running, watched
from paddock.cli.timeline import Timeline
from paddock.errors import SessionError, TraceError
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.conversation.trace import encode_record
from paddock.runtime.session.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rows("S-62")

PATIENCE = 60.0


class Written:
    """A session that this test writes, as its process would."""

    def __init__(self, base: Path, name: str) -> None:
        self.directory = SessionDirectory(base / name)
        self.directory.make()
        self.directory.claim(name, f"Prompt of {name}.")
        self._file = self.directory.trace.open("ab", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def append(self, **record: Any) -> None:
        self._file.write(encode_record(record))

    def append_bytes(self, data: bytes) -> None:
        self._file.write(data)

    def truncate(self, size: int) -> None:
        self._file.truncate(size)

    def die(self) -> None:
        """Let go of the lock, and note nothing."""
        self._file.close()


class Lines:
    """A reader that gives these lines."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    async def read(self) -> str:
        if not self._lines:
            raise EOFError
        return self._lines.pop(0)


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def begin(name: str) -> Written:
            written = Written(tmp_path, name)
            stack.callback(written.die)
            return written

        yield begin


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path)


async def told(store: SessionStore, *lines: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the monitor says to `lines`, errors included."""
    await Monitor(store, Lines(*lines)).run()
    out, err = capsys.readouterr()
    return out + err


def test_what_runs_is_told_from_what_ended_and_what_died(write: Any, store: SessionStore) -> None:
    (store.base_dir / "a-file").touch()
    write("runs")
    paused = write("waits")
    paused.directory.request_pause()
    ended = write("ended")
    ended.append(type="run_end", run_id=1, status="completed")
    ended.die()
    write("died").die()
    assert [(each.id, each.phase) for each in watched(store)] == [
        ("died", "died"),
        ("runs", "running"),
        ("waits", "paused"),
    ]
    assert [each.id for each in running(store)] == ["runs", "waits"]


def test_where_no_session_was_ever_nothing_runs(tmp_path: Path) -> None:
    assert watched(SessionStore(tmp_path / "never")) == []


def test_a_prefix_names_one_session_and_an_ambiguous_one_lists_its_matches(
    write: Any, store: SessionStore
) -> None:
    for name in ("ab", "abc", "xyz"):
        write(name)
    assert [each.id for each in choose(store, "x")] == ["xyz"]
    assert [each.id for each in choose(store, "ab")] == ["ab"]
    assert len(choose(store, "all")) == 3
    with pytest.raises(SessionError, match=r"may be any of:\n  ab  running.*\n  abc  running"):
        choose(store, "a")
    with pytest.raises(SessionError, match="this may be any of"):
        choose(store, "")
    with pytest.raises(FileNotFoundError, match="nope"):
        choose(store, "nope")


def test_who_cannot_be_steered_is_told_why(write: Any, store: SessionStore) -> None:
    with pytest.raises(SessionError, match="no session is running"):
        choose(store, "")
    write("dead").die()
    with pytest.raises(SessionError, match="dead is not running: its process died"):
        choose(store, "de")


async def test_commands_leave_what_they_ask_in_the_directory(
    write: Any, store: SessionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write("abc").directory
    shown = await told(store, "ps", "pause a", "directive ab Look left.", capsys=capsys)
    assert "Prompt of abc." in shown
    assert directory.paused()
    with directory.directives() as texts:
        assert texts == ["Look left."]
    await told(store, "resume", capsys=capsys)
    assert not directory.paused()
    await told(store, "pause", "cancel abc", capsys=capsys)
    assert directory.cancel_requested()
    assert not directory.paused()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "there is no command nonsense"),
        ("directive abc", "say directive PREFIX TEXT"),
        ("cancel", "say cancel PREFIX"),
        ("watch all", "one is watched at a time"),
        ("watch nope", "nope"),
    ],
)
async def test_what_it_cannot_do_is_told_and_it_goes_on(
    line: str, words: str, write: Any, store: SessionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    write("abc")
    shown = await told(store, line, "help", capsys=capsys)
    assert words in shown
    assert "directive PREFIX TEXT     tell it" in shown


@pytest.mark.rows("C58")
async def test_what_a_session_says_is_shown_without_its_tricks(
    write: Any, store: SessionStore, capsys: pytest.CaptureFixture[str]
) -> None:
    written = write("abc")
    trick = "\x1b]0;title\x07[red]\u202ex"
    written.append(type="message", role="assistant", content=trick)
    written.append(type="approval_required", tool_name="bash", tool_args={"command": trick})
    written.directory.update_meta(first_prompt=trick)
    written.die()
    shown = await told(store, "ps", capsys=capsys)
    async for records in follow(written.directory):
        shown += "".join(str(Timeline().render_record(record)) for record in records)
    assert "waits for an approval: bash \\x1b]0;title" in shown
    assert "\\x1b]0;title\\x07[red]\\u202ex" in shown
    assert "\x1b" not in shown


async def _followed(written: Written, *, then: Any = None) -> list[str]:
    """The texts of all records; `then` happens after the first ones were seen."""
    seen = []
    async with asyncio.timeout(PATIENCE):
        async for records in follow(written.directory):
            seen += [str(record.get("text")) for record in records]
            if then is not None and seen:
                then()
                then = None
    return seen


async def test_what_is_appended_is_seen_until_the_writer_is_gone(write: Any) -> None:
    written = write("abc")
    written.append(type="note", text="before")

    def go_on() -> None:
        written.append(type="note", text="after")
        written.die()

    assert await _followed(written, then=go_on) == ["before", "after"]


async def test_a_line_that_is_half_written_is_waited_for_and_may_be_cut_off(write: Any) -> None:
    written = write("abc")
    written.append(type="note", text="first")
    size = written.directory.trace.stat().st_size
    written.append_bytes(b'{"type":"note","text":"to')

    def mend() -> None:
        written.truncate(size)
        written.append(type="note", text="second, and longer than what was torn")
        written.die()

    assert await _followed(written, then=mend) == ["first", "second, and longer than what was torn"]


async def test_only_the_end_of_a_long_trace_is_shown(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write("abc")
    for number in range(100):
        written.append(type="note", text=str(number))
    written.die()
    monkeypatch.setattr(following, "CONTEXT", 150)
    assert await _followed(written) == ["97", "98", "99"]


async def test_records_longer_than_a_piece_are_read_whole(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PIECE", 64)
    written = write("abc")
    texts = [letter * 1000 for letter in "abc"]
    for text in texts:
        written.append(type="note", text=text)
    written.die()
    assert await _followed(written) == texts


async def test_a_damaged_trace_is_told_of(write: Any) -> None:
    written = write("abc")
    written.append_bytes(b'{"type":"note"\n')
    written.die()
    with pytest.raises(TraceError, match=r"trace\.jsonl, after byte 0"):
        await _followed(written)


async def test_a_session_that_has_no_trace_yet_has_nothing_to_watch(tmp_path: Path) -> None:
    directory = SessionDirectory(tmp_path / "abc")
    directory.make()
    assert [records async for records in follow(directory)] == []


def test_notes_that_make_no_sense_are_no_obstacle(write: Any, store: SessionStore) -> None:
    written = write("abc")
    (written.directory.path / "meta.json").write_text(json.dumps({"writer": {"pid": "x"}}))
    (found,) = watched(store)
    assert (found.phase, found.writer, found.prompt) == ("running", None, "")
