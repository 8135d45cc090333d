"""The trace file: what is acknowledged stays, what is damaged is told."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.errors import TraceError, TraceWriteError
from paddock.runtime.conversation import trace
from paddock.runtime.conversation.trace import TraceWriter, encode_record, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDS: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": f"number {number} é \n {'x' * (number % 7)}"}
    for number in range(40)
]
TRACE = b"".join(map(encode_record, RECORDS))


@contextlib.contextmanager
def opened(path: Path, start: int = 0) -> Iterator[tuple[TraceWriter, list[dict[str, Any]], Any]]:
    writer, records, torn = TraceWriter.open(path, start=start)
    try:
        yield writer, records, torn
    finally:
        writer.close()


def test_records_come_back_as_they_went_in() -> None:
    content = read_records(TRACE)
    assert content.records == RECORDS
    assert (content.end, content.torn, content.complete) == (len(TRACE), b"", True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.rows("C39")
@given(st.dictionaries(st.text().filter(lambda key: key != "crc"), JSON))
def test_every_json_value_survives_a_line(fields: dict[str, Any]) -> None:
    record = {**fields, "type": "x"}
    line = encode_record(record)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert read_records(line).records == [record]


def nested(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), "\ud800 lone", "\udcff", object(), b"bytes", {1, 2}, {3: 4},
        nested(100_000), 10**5000, "x" * 3_000_000, {"a": float("nan"), "b": nested(2000)},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.rows("C39")
def test_what_json_lacks_still_makes_a_line_that_others_read(value: Any, tmp_path: Path) -> None:
    line = encode_record({"type": "x", "value": value})
    (record,) = read_records(line).records
    assert record["type"] == "x"
    if jq := shutil.which("jq"):
        subprocess.run([jq, "-e", ".type"], input=line, check=True, capture_output=True)


def test_emoji_stay_and_half_of_one_does_not() -> None:
    record = {"type": "x", "value": "\U0001f600 \ud800", "\udc00": r"\ud800"}
    (read,) = read_records(encode_record(record)).records
    assert read == {"type": "x", "value": "\U0001f600 \ufffd", "\ufffd": r"\ud800"}


def test_a_trace_cut_at_any_byte_keeps_what_was_whole_and_takes_more(tmp_path: Path) -> None:
    ends = [0]
    for record in RECORDS:
        ends.append(ends[-1] + len(encode_record(record)))
    path = tmp_path / "trace.jsonl"
    for cut in range(len(TRACE) + 1):
        path.write_bytes(TRACE[:cut])
        whole = sum(end <= cut for end in ends) - 1
        with opened(path) as (writer, records, torn):
            acknowledged = records[:whole]
            assert acknowledged == RECORDS[:whole]
            assert len(records) - whole in (0, 1)  # the newline alone may be missing
            if torn is not None:
                assert torn.quarantine.read_bytes() == TRACE[ends[whole] : cut]
                torn.quarantine.unlink()
            writer.append({"type": "more"})
        again = read_records(path.read_bytes())
        assert again.records == [*records, {"type": "more"}]
        assert not again.torn


@pytest.mark.rows("D4")
def test_no_flipped_byte_is_accepted() -> None:
    data = b"".join(map(encode_record, RECORDS[:4]))
    for flip in (0x01, 0x20, 0x80):
        for place in range(len(data)):
            changed = bytearray(data)
            changed[place] ^= flip
            try:
                content = read_records(bytes(changed))
            except TraceError:
                continue
            assert content.torn, f"byte {place} xor {flip:#x} was not noticed"


@settings(max_examples=200)
@given(
    st.binary() | st.lists(st.sampled_from([*TRACE.split(b"\n"), b"{", b"\x00"])).map(b"\n".join)
)
def test_reading_raises_nothing_but_trace_error(data: bytes) -> None:
    with contextlib.suppress(TraceError):
        read_records(data)


def test_lines_without_a_checksum_are_accepted() -> None:
    data = b'{"type":"message","role":"user"}\n\n{"type":"run_end"}'
    assert [record["type"] for record in read_records(data).records] == ["message", "run_end"]


def test_a_damaged_line_is_named() -> None:
    lines = TRACE.splitlines(keepends=True)
    lines[2] = lines[2].replace(b"number", b"nomber")
    with pytest.raises(TraceError, match="line 3"):
        read_records(b"".join(lines))


def test_a_record_that_could_not_be_read_back_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "MAX_LINE", 300)
    with opened(tmp_path / "trace.jsonl") as (writer, _, _):
        writer.append(RECORDS[0])
        with pytest.raises(TraceWriteError, match="it may have 300"):
            writer.append({"type": "message", "content": "x" * 300})
        writer.append(RECORDS[1])
    with opened(tmp_path / "trace.jsonl") as (_, records, torn):
        assert (records, torn) == (RECORDS[:2], None)


def test_torn_tails_are_numbered_and_the_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for _ in range(2):
        with opened(path) as (writer, _records, _torn):
            writer.append(RECORDS[0])
        with path.open("ab") as file:
            file.write(b'{"type":"me')
    with opened(path) as (_writer, records, torn):
        assert torn.quarantine.name == "trace.jsonl.torn-2"
        assert records == [RECORDS[0], RECORDS[0]]
    for file_path in tmp_path.iterdir():
        assert stat.S_IMODE(file_path.stat().st_mode) == 0o600


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with opened(path), pytest.raises(BlockingIOError):
        TraceWriter.open(path)
    with opened(path):
        pass


def test_a_trace_that_shrank_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(TRACE)
    with pytest.raises(TraceError, match="shorter"):
        TraceWriter.open(path, start=len(TRACE) + 1)


async def test_a_write_to_a_full_device_is_an_error_and_not_silence() -> None:
    writer = TraceWriter(os.open("/dev/full", os.O_WRONLY), Path("/dev/full"))
    with pytest.raises(TraceWriteError, match="No space left"):
        writer.append(RECORDS[0])
    with pytest.raises(TraceWriteError, match="No space left"):
        writer.append(RECORDS[0])
    writer.close()


class Faults:
    """Stands in for `os`: call number `at` of write, fdatasync or ftruncate goes wrong."""

    def __init__(self, at: int, kind: str) -> None:
        self.at = at
        self.kind = kind
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"write", "fdatasync", "ftruncate"}:
            return real
        return lambda *args: self._call(name, real, *args)

    def _call(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return real(*args)
        if self.kind == "short" and name == "write":
            return real(args[0], bytes(args[1])[: len(args[1]) // 2])
        if self.kind == "short then full" and name == "write":
            self.at, self.kind = self.calls + 1, "ENOSPC"
            return real(args[0], bytes(args[1])[: len(args[1]) // 2])
        if self.kind == "kill":
            if name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "EINTR":
            raise InterruptedError
        if self.kind.startswith("E"):
            raise OSError(getattr(errno, self.kind), self.kind)
        return real(*args)


async def write_with_faults(path: Path, faults: Faults, patch: pytest.MonkeyPatch) -> int:
    """Append records, syncing every third; how many were acknowledged."""
    writer, _records, _torn = TraceWriter.open(path)
    acknowledged = 0
    with patch.context() as patched, contextlib.closing(writer):
        patched.setattr("paddock.runtime.conversation.trace.os", faults)
        for number, record in enumerate(RECORDS[:10]):
            try:
                writer.append(record)
                acknowledged += 1
                if number % 3 == 2:
                    await writer.sync()
            except TraceWriteError:
                break
        patched.undo()
    return acknowledged


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "short", "short then full", "EINTR"])
@pytest.mark.rows("C37", "D4")
async def test_whichever_operation_fails_what_was_acknowledged_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for at in range(1, 16):
        path = tmp_path / f"{at}.jsonl"
        faults = Faults(at, kind)
        if at % 4 == 0 and kind not in ("EIO", "ENOSPC"):
            continue  # fdatasync: never short, and Python itself repeats it
        acknowledged = await write_with_faults(path, faults, monkeypatch)
        content = read_records(path.read_bytes())
        assert not content.torn, "the file was cut back to the last newline"
        assert content.records[:acknowledged] == RECORDS[:acknowledged]
        assert len(content.records) - acknowledged <= 1
        if kind in ("short", "EINTR"):
            assert acknowledged == 10
        elif at <= 13:
            assert acknowledged < 10, "the failure was told"


KILLED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_trace, pytest
patch = pytest.MonkeyPatch()
faults = test_trace.Faults(int(sys.argv[2]), "kill")
asyncio.run(test_trace.write_with_faults(Path(sys.argv[1]), faults, patch))
"""


@pytest.mark.parametrize("at", [1, 3, 4, 9])
def test_a_writer_that_is_killed_loses_nothing_acknowledged(tmp_path: Path, at: int) -> None:
    path = tmp_path / "trace.jsonl"
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(at), here], check=False, timeout=30
    )
    assert done.returncode == -signal.SIGKILL
    acknowledged = at - 1 - (at - 1) // 4  # every fourth call is a sync
    with opened(path) as (_writer, records, torn):
        assert records == RECORDS[:acknowledged]
        assert (torn is not None) == (at % 4 != 0)
    for line in path.read_bytes().splitlines():
        json.loads(line)
