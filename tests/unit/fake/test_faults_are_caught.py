"""The kit fails on backends with bugs: each one that can be put into `FakeBackend`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from paddock.testing.fake import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

pytest_plugins = "pytester"

CAUGHT_BY = {
    Fault.ARGV_JOINED: "ExecTests",
    Fault.CANCEL_IGNORED: "TreeTests",
    Fault.CWD_IGNORED: "ExecTests",
    Fault.ENV_LEAKS: "LifecycleTests",
    Fault.EXIT_CODE_LOST: "ExecTests",
    Fault.LIMIT_IGNORED: "ExecTests",
    Fault.MODE_LOST: "TransferTests",
    Fault.OUTLIVES_CLOSE: "ListingTests",
    Fault.OUTPUT_CUT: "ExecTests",
    Fault.PATH_ESCAPES: "TransferTests",
    Fault.STDIN_LOST: "ExecTests",
    Fault.STREAMS_MERGED: "ExecTests",
    Fault.STREAMS_SWAPPED: "ExecTests",
    Fault.TIMEOUT_LEAVES_CHILD: "TreeTests",
    Fault.WRITE_TORN: "FileStreamTests",
    Fault.WRONG_ERROR: "FileTests",
}
"""The bugs, and the class of the kit whose tests have to fail."""

PROJECT = """
import pytest
from paddock.testing import conformance
from paddock.testing.fake import FakeBackend, Fault

@pytest.fixture(scope="class")
def backend(request):
    return FakeBackend(faults=request.cls.faults)
"""
SLOW = "not endless and not slow_reader and not reader_that_stops"
"""Tests that take a second each, and are about none of the bugs."""


def _classes() -> Iterator[str]:
    for fault, topic in CAUGHT_BY.items():
        yield f"class Test_{fault}(conformance.{topic}):\n    faults = [Fault({fault.value!r})]\n"
    for topic in sorted({*CAUGHT_BY.values()}):
        yield f"class Test_sound_{topic}(conformance.{topic}):\n    faults = []\n"


def test_each_bug_is_caught_by_the_tests_that_are_about_it(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(PROJECT + "\n".join(_classes()))
    result = pytester.runpytest_subprocess("-q", "--tb=no", "-rfE", "-k", SLOW, timeout=240)
    failing = set(re.findall(r"(?:FAILED|ERROR) \S+::Test_(\w+)::", result.stdout.str()))
    assert failing == {str(fault) for fault in CAUGHT_BY}


def test_the_matrix_shows_what_failed(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(
        PROJECT + "class TestBad(conformance.ArgumentTests):\n    faults = [Fault('output_cut')]\n"
    )
    result = pytester.runpytest_subprocess("-q", "--tb=no", timeout=60)
    result.stdout.fnmatch_lines(["*conformance of backends*", "*fake", "Argument*1 failed*"])
