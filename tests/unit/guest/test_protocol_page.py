"""The page on the protocol says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from paddock.backends.guest.inside import (
    commands,
    files,
    jobs,
    machine,
    outbox,
    requests,
    seal,
    spills,
    streams,
    tar,
    wire,
)

PAGE = (Path(__file__).parents[3] / "docs" / "guest-protocol.md").read_text()


def test_the_tables_have_every_constant_of_the_wire() -> None:
    told = {
        name: int(value)
        for name, value in re.findall(r"^\| `([A-Z_]+)` \| (\d+) ", PAGE, re.MULTILINE)
    }
    constants = {name: value for name, value in vars(wire).items() if isinstance(value, int)}
    constants["TAG_BYTES"] = seal.TAG_BYTES
    del constants["TYPE_CHECKING"]
    assert told == constants


def test_the_header_is_as_long_as_its_fields() -> None:
    fields = [int(size) for size in re.findall(r"^\| (\d) \| ", PAGE, re.MULTILINE)]
    assert sum(fields) == wire.HEADER.size


def test_every_operation_and_job_has_a_row() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE)
    operations = {*requests.OPERATIONS, "configure", "exec", "fenced", "job", "join", "succeed"}
    assert set(rows) >= operations | set(jobs.JOBS)


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    mebibyte = 1024 * 1024
    assert f"{streams.SPILL_LIMIT // mebibyte} MiB of each stream" in text
    assert f"{spills.TOTAL // 1024**3} GiB in all" in text
    assert f"waits {commands.DRAIN_GRACE} s" in text
    assert f"more than {outbox.HIGH // mebibyte} MiB waits" in text
    assert f"until {outbox.LOW // 1024} KiB are left" in text
    assert f"with {outbox.FULL // mebibyte} MiB waiting" in text
    assert f"last {machine.SPARE_DESCRIPTORS} descriptors" in text
    assert f"more than {files.EXPECTED_MAX // mebibyte} MiB counts" in text
    assert f"headers of more than {tar.MAX_HEADER // mebibyte} MiB" in text
