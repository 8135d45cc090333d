"""`paddock mcp sandbox` as a real process, for the official client and for one that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, StdioServerParameters, types

from tests.e2e.processes import processes_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Paddock

ERAS = ["2026-07-28", "legacy"]
LOCAL = ("--isolation", "none")
PATIENCE = 60
"""Seconds for what takes one, on two cores that may be busy with other tests."""


def connect(paddock: Paddock, *options: str, **client: Any) -> Client:
    program, *arguments = paddock.command("mcp", "sandbox", *options)
    server = StdioServerParameters(
        command=program, args=arguments, env=paddock.environment, cwd=paddock.cwd
    )
    return Client(server, **client)


def text_of(result: types.CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if isinstance(each, types.TextContent))


def output_of(result: types.CallToolResult) -> str:
    """What a command printed."""
    assert not result.is_error, text_of(result)
    return str(json.loads(text_of(result))["output"])


async def approve(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept")


@pytest.mark.rows("F-41")
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_works_in_a_sandbox_of_its_own(era: str, paddock: Paddock) -> None:
    (paddock.cwd / "shared").mkdir()
    options = (*LOCAL, "--share", "shared", "--setup", "echo made > state")
    async with connect(paddock, *options, mode=era, elicitation_callback=approve) as client:
        assert {"bash", "read", "write", "edit", "list", "grep", "glob"} <= {
            tool.name for tool in (await client.list_tools()).tools
        }

        async def call(name: str, **arguments: Any) -> types.CallToolResult:
            return await client.call_tool(name, arguments)

        assert output_of(await call("bash", command="cat state")) == "made"
        await call("write", path="a.txt", content="one\ntwo\n")
        await call("edit", path="a.txt", old_string="two", new_string="three")
        assert "three" in text_of(await call("read", path="a.txt"))
        assert "a.txt:2:three" in text_of(await call("grep", pattern="th.ee"))
        assert "a.txt" in text_of(await call("glob", pattern="*.txt"))
        await call("upload", path="b.bin", data="AAEC")
        (_, file) = (await call("download", path="b.bin")).content
        assert isinstance(file, types.EmbeddedResource)
        assert isinstance(file.resource, types.BlobResourceContents)
        assert file.resource.blob == "AAEC"
        await call("download", path="a.txt", shared_path="got.txt")
        assert (paddock.cwd / "shared/got.txt").read_text() == "one\nthree\n"
        again = await call("download", path="b.bin", shared_path="got.txt")
        assert "exists already" in text_of(again)
        hook = await call("download", path="b.bin", shared_path=".git/hooks/pre-commit")
        assert "protected path" in text_of(hook)
        outside = await call("upload", path="c", shared_path="../cwd/paddock.toml")
        assert outside.is_error
        assert "not in the shared directory" in text_of(outside)
        assert text_of(await call("url", port=8000)).startswith("http://")
        gone = await call("bash", command="rm -rf a.txt && echo removed")
        assert output_of(gone) == "removed"  # it was gated, and approved
    assert not paddock("ls", "--quiet").stdout.strip()


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_call_kills_its_command(era: str, paddock: Paddock) -> None:
    mark = f"31.{os.getpid()}"
    async with connect(paddock, *LOCAL, mode=era) as client:
        call = asyncio.create_task(client.call_tool("bash", {"command": f"sleep {mark}"}))
        await asyncio.to_thread(_wait_until_there, mark)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await asyncio.to_thread(_wait_until_gone, mark)
        assert output_of(await client.call_tool("bash", {"command": "echo alive"})) == "alive"


class Wire:
    """A client by hand, which need not behave."""

    def __init__(self, paddock: Paddock) -> None:
        self.process = subprocess.Popen(
            paddock.command("mcp", "sandbox", *LOCAL),
            cwd=paddock.cwd,
            env=paddock.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def send(self, method: str, number: int | None = None, **params: Any) -> None:
        assert self.process.stdin is not None
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        self.process.stdin.write(json.dumps(message) + "\n")

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def begin(self, command: str) -> None:
        """Shake hands, and run `command` for as long as it takes."""
        self.send(
            "initialize",
            1,
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
        assert self.answer()["result"]["serverInfo"]["name"] == "paddock-sandbox"
        self.send("notifications/initialized")
        self.send("tools/call", 2, name="bash", arguments={"command": command})


@pytest.fixture
def wire(paddock: Paddock) -> Iterator[Wire]:
    wire = Wire(paddock)
    with wire.process as process:
        try:
            yield wire
        finally:
            process.kill()


@pytest.mark.parametrize("ending", ["stdin", "SIGTERM"])
def test_the_sandbox_goes_when_the_client_goes(wire: Wire, paddock: Paddock, ending: str) -> None:
    mark = f"32.{os.getpid()}"
    wire.begin(f"sleep {mark}")
    _wait_until_there(mark)
    assert wire.process.stdin is not None
    if ending == "stdin":
        wire.process.stdin.close()
        assert wire.process.wait(PATIENCE) == 0
    else:
        wire.process.send_signal(signal.Signals[ending])  # and stdin stays open
        assert wire.process.wait(PATIENCE) == 128 + signal.Signals[ending]
    _wait_until_gone(mark)
    assert not paddock("ls", "--quiet").stdout.strip()


def test_what_is_no_message_is_passed_over(wire: Wire) -> None:
    assert wire.process.stdin is not None
    wire.process.stdin.write("this is no JSON\n\n{}\n")
    wire.begin("echo fine")
    assert "fine" in wire.answer()["result"]["content"][0]["text"]


def _wait_until_there(mark: str) -> None:
    wait_until(lambda: bool(processes_with(mark)), within=PATIENCE, otherwise="it did not begin")


def _wait_until_gone(mark: str) -> None:
    wait_until(lambda: not processes_with(mark), within=PATIENCE, otherwise="it is still there")


def test_a_backend_that_there_is_not_is_said_at_once(paddock: Paddock) -> None:
    done = paddock("mcp", "sandbox", "--backend", "dockr")
    assert done.returncode == 1
    assert "no backend is called 'dockr'" in done.stderr
    assert not done.stdout


@pytest.mark.docker
async def test_the_sandbox_may_be_a_container(paddock: Paddock, base_image: str) -> None:
    options = ("--backend", "docker", "--image", base_image)
    async with connect(paddock, *options) as client:
        done = await client.call_tool("bash", {"command": "id -u; pwd"})
        assert "/workspace" in output_of(done)
