"""The backend of docs/write-a-backend.md, run by the kit as the guide says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.test_pytest_plugin import INI

pytest_plugins = "pytester"

GUIDE = Path(__file__).parents[2] / "docs" / "write-a-backend.md"
KIT = """
import pytest
from ours import DirectoryBackend
from paddock.testing import BackendConformance

@pytest.fixture(scope="module")
def backend():
    return DirectoryBackend()

class TestOurs(BackendConformance):
    pass
"""
SOME = "exit_code or env_is_the or would_ask or tree_goes_up or builtin_error"


def test_the_backend_of_the_guide_keeps_the_contract(pytester: pytest.Pytester) -> None:
    (program,) = re.findall(
        r"```python\n(import asyncio\nimport os\n.*?)async def main", GUIDE.read_text(), re.DOTALL
    )
    pytester.makepyfile(KIT, ours=program)
    pytester.makefile(".ini", pytest=INI.format(mode="strict"))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", SOME, timeout=300)
    assert result.ret == pytest.ExitCode.OK
    assert {"failed", "errors"}.isdisjoint(result.parseoutcomes())
    result.stdout.fnmatch_lines(["*conformance of backends*", "*directory*", "Exec*passed*"])
