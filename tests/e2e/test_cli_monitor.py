"""Sessions that are watched and steered from other processes, through their directories."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from paddock.testing.model_server import ModelServer
from tests.e2e.terminal import CTRL_C, READY, Terminal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.e2e.conftest import Paddock

pytestmark = pytest.mark.rows("S-62")

PATIENCE = 60.0


def waiting_for(name: str) -> dict[str, Any]:
    """A turn whose command ends when there is a file `name`."""
    command = f"until [ -e {name} ]; do sleep 0.05; done; echo seen {name}"
    return {"tool_calls": [{"name": "bash", "arguments": {"command": command}}]}


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another process writes, and does not tell."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


class Running:
    """`paddock run` in a process of its own, its model on a socket of this one."""

    def __init__(self, paddock: Paddock, process: subprocess.Popen[str], directory: Path) -> None:
        self._paddock = paddock
        self.process = process
        self.directory = directory

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def trace(self) -> str:
        path = self.directory / "trace.jsonl"
        return path.read_text() if path.exists() else ""

    async def command(self, *args: str, lines: str = "") -> tuple[int, str, str]:
        done = await asyncio.to_thread(self._paddock, *args, input=lines)
        return done.returncode, done.stdout, done.stderr

    async def monitor(self, *lines: str) -> str:
        code, out, err = await self.command("monitor", lines="\n".join(lines))
        assert (code, err) == (0, ""), err
        return out

    async def end(self) -> int:
        await asyncio.to_thread(self.process.communicate, None, PATIENCE)
        return self.process.returncode


@contextlib.asynccontextmanager
async def running(
    paddock: Paddock, script: Sequence[dict[str, Any]]
) -> AsyncIterator[tuple[Running, ModelServer]]:
    sessions = paddock.home / ".config" / "paddock" / "sessions"
    async with ModelServer(script) as server:
        process = paddock.start(
            *("run", "Begin \x1b[2Jnow", "--model", "served", "--base-url", server.base_url),
            *("--profile", "developer", "-y", "-w", str(paddock.cwd)),
            env={"OPENAI_API_KEY": server.api_key},
        )
        try:
            await until(lambda: server.requests)
            (directory,) = [path for path in sessions.iterdir() if path.is_dir()]
            started = Running(paddock, process, directory)
            await until(lambda: '"tool_start"' in started.trace)
            yield started, server
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)


async def test_a_run_is_paused_directed_resumed_and_cancelled(paddock: Paddock) -> None:
    script = [waiting_for("go"), {"expect": "Look left", **waiting_for("never")}]
    async with running(paddock, script) as (run, server):
        listed = await run.monitor("ps", "pause", f"directive {run.id[:6]} Look left.", "ps")
        before, _, after = listed.partition("waits before")
        assert f"{run.id}  running" in before
        assert str(run.process.pid) in before
        assert f"{run.id}  paused" in after
        assert "\x1b" not in listed
        (paddock.cwd / "go").touch()
        await until(lambda: '"tool_end"' in run.trace)
        assert len(server.requests) == 1

        watching = asyncio.create_task(run.monitor("watch"))
        assert "continues" in await run.monitor("resume")
        await until(lambda: run.trace.count('"tool_start"') == 2)
        assert server.requests[1].body["messages"][-1] == {"role": "user", "content": "Look left."}

        assert f"asked {run.id} to stop" in await run.monitor("cancel all")
        assert await run.end() == 130
        watched = await watching
        assert "run  Begin \\x1b[2Jnow" in watched
        assert "seen go" in watched
        assert watched.rstrip().endswith(f"{run.id} is no longer running")
        assert "no session is running" in await run.monitor("ps")


async def test_a_paused_run_is_cancelled_and_leaves_no_pause(paddock: Paddock) -> None:
    async with running(paddock, [waiting_for("go"), {"text": "Never."}]) as (run, server):
        await run.monitor("pause all")
        (paddock.cwd / "go").touch()
        await until(lambda: '"tool_end"' in run.trace)
        code, out, _ = await run.command("cancel", run.id[:4])
        assert (code, out) == (0, f"asked {run.id} to stop\n")
        assert await run.end() == 130
        assert len(server.requests) == 1
        assert not (run.directory / "pause").exists()
        code, _, err = await run.command("cancel", run.id)
        assert code == 1
        assert "is not running: its status is cancelled" in err


async def test_a_session_whose_process_died_is_shown_so(paddock: Paddock) -> None:
    async with running(paddock, [waiting_for("go")]) as (run, _):
        assert f"{run.id}  running" in (await run.command("ps"))[1]
        run.process.send_signal(signal.SIGKILL)
        await run.end()
        code, out, _ = await run.command("ps", str(run.directory.parent))
        assert code == 0
        assert f"{run.id}  died" in out
        code, _, err = await run.command("monitor", lines=f"cancel {run.id}\nps\n")
        assert code == 1
        assert "its process died while it ran" in err


async def test_watching_at_a_terminal_ends_with_ctrl_c_and_the_session_goes_on(
    paddock: Paddock,
) -> None:
    script = [waiting_for("go"), {"text": "The end."}]
    async with running(paddock, script) as (run, _):
        with Terminal(paddock, "monitor") as terminal:
            # The model's server is served by this thread.
            await asyncio.to_thread(terminal.wait_for, READY)
            terminal.type(f"watch {run.id[:5]}\r")
            await asyncio.to_thread(terminal.wait_for, "→ bash until")
            terminal.type(CTRL_C)
            await asyncio.to_thread(terminal.wait_for, READY)
            terminal.type("quit\r")
            assert await asyncio.to_thread(terminal.end) == 0
        (paddock.cwd / "go").touch()
        assert await run.end() == 0
        assert json.loads((run.directory / "meta.json").read_text())["status"] == "completed"
