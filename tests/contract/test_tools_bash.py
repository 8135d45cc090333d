"""The bash tool over a real sandbox: what the model reads, and what has run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.permissions.profile import PermissionProfile, ShellFence
from tests.contract.tool_calls import bash, caller

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox
    from tests.contract.tool_calls import Call


@pytest.mark.rows("S-45")
async def test_bash_gives_output_and_exit_code_as_json(sandbox: Sandbox, call: Call) -> None:
    output = await call("bash", command="echo hi; exit 3")
    shown = json.loads(output.content)
    assert shown["output"] == "hi"
    assert shown["metadata"]["exit_code"] == 3
    assert isinstance(shown["metadata"]["duration_seconds"], float)
    assert not output.success
    assert output.metadata == {
        **shown["metadata"],
        "command": "echo hi; exit 3",
        "working_dir": str(sandbox.working_dir),
    }
    assert set(shown["metadata"]) == {"exit_code", "duration_seconds"}


async def test_bash_succeeds_when_the_command_does(call: Call) -> None:
    assert (await call("bash", command="true")).success


async def test_bash_keeps_the_order_of_both_streams(call: Call) -> None:
    text, _ = await bash(call, "echo 1; echo 2 >&2; echo 3; echo 4 >&2")
    assert text == "1\n2\n3\n4"


async def test_bash_runs_a_command_of_any_length(call: Call) -> None:
    content = "y" * 99 + "\n"
    text, facts = await bash(call, f"cat > f <<'E'\n{content * 3000}E\nwc -c < f; cat")
    assert (text, facts["exit_code"]) == ("300000", 0)


async def test_bash_shows_the_shells_own_complaint_too(call: Call) -> None:
    text, facts = await bash(call, "echo 'unclosed")
    assert facts["exit_code"] != 0
    assert "quot" in text.lower() or "eof" in text.lower()


@pytest.mark.rows("S-45")
async def test_bash_starts_where_it_is_told(sandbox: Sandbox, call: Call) -> None:
    await sandbox.fs.mkdir("sub dir")
    text, _ = await bash(call, "pwd", working_dir="sub dir")
    assert text == str(sandbox.path("sub dir"))
    output = await call("bash", command="pwd", working_dir="nowhere")
    assert not output.success
    assert output.content == f"Working directory not found: {sandbox.path('nowhere')}"


async def test_bash_starts_in_the_profiles_directory_if_there_is_one(sandbox: Sandbox) -> None:
    await sandbox.fs.mkdir("app")
    app = str(sandbox.path("app"))
    there = caller(
        sandbox,
        PermissionProfile(name="x", shell_fence=ShellFence.ALLOW_LIST, shell_working_dir=app),
    )
    assert (await bash(there, "pwd"))[0] == app
    not_there = caller(
        sandbox,
        PermissionProfile(
            name="x", shell_fence=ShellFence.ALLOW_LIST, shell_working_dir="/no/such"
        ),
    )
    assert (await bash(not_there, "pwd"))[0] == str(sandbox.working_dir)


@pytest.mark.rows("S-45")
async def test_bash_kills_what_takes_too_long_and_shows_what_there_was(call: Call) -> None:
    output = await call("bash", command="echo partial; exec sleep 60", timeout=1)
    shown = json.loads(output.content)
    assert shown["output"] == "partial\n[Command timed out after 1s and was killed]"
    assert shown["metadata"]["exit_code"] == -1
    assert not output.success
    assert output.metadata["timed_out"] is True


async def test_the_profiles_timeout_is_for_commands_that_ask_for_none(sandbox: Sandbox) -> None:
    call = caller(
        sandbox, PermissionProfile(name="x", shell="unrestricted", shell_timeout=0.2)  # type: ignore[arg-type]
    )  # fmt: skip
    output = await call("bash", command="exec sleep 60")
    assert output.metadata["exit_code"] == -1


async def test_a_cancelled_bash_leaves_no_process(sandbox: Sandbox, call: Call) -> None:
    await sandbox.exec(["mkfifo", "ready"])
    task = asyncio.ensure_future(call("bash", command="echo $$ >ready; exec sleep 600"))
    pid = (await sandbox.exec(["cat", "ready"], timeout=60)).stdout.strip()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (await sandbox.exec(["kill", "-0", pid])).ok


async def test_bash_output_is_bounded_and_tells_where_the_rest_is(
    sandbox: Sandbox, call: Call
) -> None:
    output = await call("bash", command="yes a long line of output | head -c 3000000; echo the end")
    assert len(output.content.encode()) <= 20_000
    shown = json.loads(output.content)
    assert shown["output"].startswith("Total output lines: ")
    assert shown["output"].endswith("the end")
    spilled = await sandbox.fs.stat(shown["metadata"]["full_output"])
    assert spilled.size == 3_000_008


@pytest.mark.parametrize("command", ["head -c 30000 /dev/zero", "yes '\"' | head -c 30000"])
async def test_output_that_escapes_badly_still_fits_and_is_json(call: Call, command: str) -> None:
    output = await call("bash", command=command)
    assert len(output.content.encode()) <= 20_000
    json.loads(output.content)


async def test_every_byte_comes_out_as_valid_text(call: Call) -> None:
    text, _ = await bash(call, "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; "
                                "i=$((i+1)); done")  # fmt: skip
    text.encode()
    assert "abc" in text
    assert "\N{REPLACEMENT CHARACTER}" in text


@pytest.mark.rows("S-45")
async def test_a_restricted_shell_says_what_it_blocked(sandbox: Sandbox) -> None:
    call = caller(sandbox, "readonly")
    output = await call("bash", command="touch evil")
    assert not output.success
    assert output.content == "Command blocked: 'touch' is not among the commands that only read"
    assert not await sandbox.fs.exists("evil")


async def test_a_restricted_shell_runs_what_only_reads(sandbox: Sandbox) -> None:
    await sandbox.fs.write_text("a.txt", "one\ntwo\n")
    call = caller(sandbox, "readonly" if not sandbox.unfenced else LESS_FENCED)
    text, facts = await bash(call, 'cat *.txt nope 2>/dev/null | wc -l && echo "$PWD"')
    assert text.split() == ["2", str(sandbox.working_dir)]
    assert facts["exit_code"] == 0


async def test_a_restricted_shell_without_its_fence_runs_nothing_and_says_why(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = sandbox.unfenced or "its kernel is too old"
    monkeypatch.setattr(type(sandbox), "unfenced", reason)
    output = await caller(sandbox, "readonly")("bash", command="ls")
    assert not output.success
    assert reason in output.content
    assert "'shell: {fence: allow-list}'" in output.content
    await bash(caller(sandbox, LESS_FENCED), "ls")


LESS_FENCED = PermissionProfile(name="accepted", shell_fence=ShellFence.ALLOW_LIST)
