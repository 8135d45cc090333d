"""A runtime whose process is killed while a nested agent waits, answered by `paddock approvals`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

PATIENCE = 60

PROGRAM = """
import asyncio, json, os, signal, sys
from paddock import *

@define_tool("refund", {"order": str}, "Pay back.", approval="always")
def refund(args, ctx):
    with open("effects", "a") as file:
        print(args["order"], ctx.idempotency_key, file=file)
    return "paid"

def script(*calls):
    return json.dumps({"script": [{"tool": tool, "args": args} for tool, args in calls]})

inner = script(("refund", {"order": "o-7"}), ("refund", {"order": "o-8"}))
prompt = script(("call_agent", {"agent": "clerk", "prompt": inner}))
spec = define_runtime(
    define_tenant("acme", "v1"),
    agents=[
        define_coordinator("lead", model="claude-x", prompt="Route.", routes=["clerk"]),
        define_specialist("clerk", model="claude-x", prompt="Serve.", tools=[refund]),
    ],
    providers={"anthropic": {"apiKeyEnv": "ANTHROPIC_API_KEY"}},
)

async def main(way):
    async with create_runtime(spec, interpreter="scripted", store="sqlite:team.db") as runtime:
        if way == "serve":
            worker = asyncio.create_task(runtime.serve_approvals())
            while [run.status for run in await runtime.runs()] != ["finished"]:
                await asyncio.sleep(0.05)
            return
        runs = await runtime.runs("t")
        events = runtime.query(None, "t", resume=runs[0]) if runs else runtime.query(prompt, "t")
        async for event in events:
            print(json.dumps(event), flush=True)
            if event["type"] == "approval-required":
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


def program(paddock: Paddock, way: str = "run") -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, way],
        cwd=paddock.cwd,
        env=paddock.environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def waiting(paddock: Paddock, *more: str) -> list[dict[str, Any]]:
    done = paddock("approvals", "list", "--store", "team.db", "--json", *more)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.rows("F-18", "F-36", "F-37", "F-38")
@pytest.mark.parametrize("way", ["run", "serve"])
def test_an_approval_is_answered_at_a_terminal_after_its_process_was_killed(
    paddock: Paddock, way: str
) -> None:
    code, events = program(paddock)
    assert code == -signal.SIGKILL
    asked = events[-1]["data"]
    (found,) = waiting(paddock)
    request = found["request"]
    assert (found["tenant"], request["id"], request["tool"]) == ("acme", asked["id"], "refund")
    assert request["agent_path"] == ["lead", "clerk"]
    shown = paddock("approvals", "show", asked["id"][:6], "--store", "sqlite:team.db")
    assert '"order": "o-7"' in shown.stdout
    assert "of tenant acme" in shown.stdout
    refused = paddock(
        *("approvals", "answer", asked["id"], "--revise", "-", "--store", "team.db"),
        input='{"order": "o-9"}',
    )
    assert refused.returncode == 1
    assert "partial is for plans" in refused.stderr
    approved = paddock("approvals", "answer", asked["id"], "--approve", "--store", "team.db")
    assert approved.returncode == 0, approved.stderr
    assert "resume=run" in approved.stderr

    code, events = program(paddock)
    assert code == -signal.SIGKILL
    assert events[-1]["data"]["payload"] == {"order": "o-8"}
    (found,) = waiting(paddock)
    done = paddock(
        *("approvals", "answer", found["request"]["id"], "--reject", "--store", "team.db"),
        *("--feedback", "One is enough."),
    )
    assert done.returncode == 0, done.stderr
    code, events = program(paddock, way)
    assert code == 0
    if way == "run":
        assert [event["type"] for event in events[-2:]] == ["finish", "tool-agent"]
    (line,) = (paddock.cwd / "effects").read_text().splitlines()
    assert line.startswith("o-7 ")
    assert waiting(paddock) == []
    assert [each["status"] for each in waiting(paddock, "--status", "all")] == ["answered"] * 2


def test_a_store_that_is_not_there_is_said(paddock: Paddock) -> None:
    done = paddock("approvals", "list", "--store", "sqlite:nothing.db")
    assert done.returncode == 1
    assert "--store nothing.db: there is no such file" in done.stderr
