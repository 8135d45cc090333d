"""Each numbered trap of Daytona's API for commands: we are not caught, whatever account it is.

The numbers are those of section B of what is specified of Daytona: what the service and its
SDK are known to do to those who use them.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ExecTimeout
from tests.e2e.daytona.served import DEADLINE, bell, is_running, made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.backends.daytona import DaytonaBackend
    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from tests.daytona_account import DaytonaAccount


@pytest.fixture
async def recipe(
    daytona_account: DaytonaAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DaytonaBackend]:
    """For sandboxes of this test alone, of which none may be left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield daytona_account.recipe
    await daytona_account.require_empty()


@pytest.fixture
async def sandbox(recipe: DaytonaBackend) -> AsyncIterator[DaytonaSandbox]:
    async with made(recipe) as sandbox:
        yield sandbox


async def test_trap_01_stdout_and_stderr_stay_apart(sandbox: DaytonaSandbox) -> None:
    result = await sandbox.exec("echo out; echo err >&2; echo out again")
    assert (result.stdout, result.stderr) == ("out\nout again\n", "err\n")
    merged = await sandbox.native.process.exec("echo out; echo err >&2", timeout=20)
    assert merged.result == "out\nerr\n"  # the trap


async def test_trap_01_a_timeout_keeps_the_output_that_there_was(sandbox: DaytonaSandbox) -> None:
    with pytest.raises(ExecTimeout) as caught:
        await sandbox.exec("echo partial; echo complaint >&2; exec sleep 986001", timeout=0.5)
    assert (caught.value.result.stdout, caught.value.result.stderr) == ("partial\n", "complaint\n")


async def test_trap_02_a_command_that_reads_stdin_does_not_eat_the_script(
    sandbox: DaytonaSandbox,
) -> None:
    assert (await sandbox.exec("read x\necho second\ncat\necho last")).stdout == "second\nlast\n"
    eaten = await sandbox.native.process.exec("read x\necho second", timeout=20)
    assert eaten.result == ""  # the trap


async def test_trap_02_a_pattern_that_matches_nothing_is_itself(sandbox: DaytonaSandbox) -> None:
    assert (await sandbox.exec("echo *.nothing")).stdout == "*.nothing\n"


async def test_trap_03_bytes_that_are_not_utf8_come_back_as_they_are(
    sandbox: DaytonaSandbox,
) -> None:
    every = bytes(range(256)) * 300
    result = await sandbox.exec(["cat"], stdin=every)
    assert result.stdout_bytes == every
    await sandbox.fs.write_bytes("bytes", every)
    assert await sandbox.fs.read_bytes("bytes") == every
    lossy = await sandbox.native.process.exec(r"printf '\377'", timeout=20)
    assert lossy.result == "\ufffd"  # the trap


async def test_trap_04_a_signal_has_its_number_and_a_missing_cwd_is_an_error(
    sandbox: DaytonaSandbox,
) -> None:
    assert (await sandbox.exec("kill -9 $$")).exit_code == 137
    with pytest.raises(FileNotFoundError):
        await sandbox.exec("true", cwd="/no/such/place")
    killed = await sandbox.native.process.exec("kill -9 $$", timeout=20)
    assert killed.exit_code == -1  # the trap


async def test_trap_05_a_background_child_does_not_hold_a_command_open(
    sandbox: DaytonaSandbox,
) -> None:
    async with asyncio.timeout(DEADLINE):
        result = await sandbox.exec("sleep 986002 & echo $!")
    assert result.background
    assert await is_running(sandbox, int(result.stdout))


async def test_trap_05_a_timeout_ends_a_child_that_left_the_group(sandbox: DaytonaSandbox) -> None:
    command = "setsid sh -c 'echo $$ > child; exec sleep 986003' & wait"
    with pytest.raises(ExecTimeout):
        await sandbox.exec(command, timeout=1)
    assert not await is_running(sandbox, int(await sandbox.fs.read_text("child")))


async def test_trap_06_a_cancelled_command_is_ended_where_it_runs(sandbox: DaytonaSandbox) -> None:
    command = "setsid sh -c 'echo $$ > pid; : > started; exec sleep 986004' & wait; touch late"
    running = asyncio.create_task(sandbox.exec(command))
    await bell(sandbox, "started")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not await is_running(sandbox, int(await sandbox.fs.read_text("pid")))
    assert not await sandbox.fs.exists("late")


async def test_trap_07_variables_arrive_as_they_are(recipe: DaytonaBackend) -> None:
    strange = {"QUOTES": "a'b\"c`d$HOME", "LINES": "one\ntwo\n", "ÜBER": "ß", "EMPTY": ""}
    recipe = replace(recipe, env_vars={**recipe.env_vars, **strange})
    async with made(recipe) as sandbox:
        own = {"LONG": "x" * 100_000, "QUOTES": "its 'own'"}
        code = "import json,os;print(json.dumps(dict(os.environ)))"
        told = json.loads((await sandbox.exec(["python3", "-c", code], env=own)).stdout)
    assert {name: told[name] for name in (*strange, *own)} == {**strange, **own}


async def test_trap_07_a_command_of_a_megabyte_works(sandbox: DaytonaSandbox) -> None:
    result = await sandbox.exec(["sh"], stdin=": " + "x" * 1024 * 1024 + "\necho done\n")
    assert result.stdout == "done\n"


@pytest.mark.parametrize("command", ["exit 3", "set -e; false; true", "exec sh -c 'exit 5'"])
async def test_trap_09_a_shell_that_ends_ends_nothing_else(
    sandbox: DaytonaSandbox, command: str
) -> None:
    assert not (await sandbox.exec(command)).ok
    assert (await sandbox.exec("echo fine")).stdout == "fine\n"


async def test_trap_09_commands_do_not_queue_behind_each_other(sandbox: DaytonaSandbox) -> None:
    waiting = asyncio.create_task(sandbox.exec("until [ -e go ]; do sleep 0.02; done; echo went"))
    await sandbox.exec("touch go")
    assert (await waiting).stdout == "went\n"


async def test_trap_10_output_is_exact_without_lines(sandbox: DaytonaSandbox) -> None:
    result = await sandbox.exec(r"printf 'a\000b\001\001\001c\002\002\002no newline'")
    assert result.stdout_bytes == b"a\0b\1\1\1c\2\2\2no newline"
    seen: list[bytes] = []
    code = "import os; os.write(1, bytes(range(256)) * 8192)"  # 2 MiB, in more than one answer
    heard = await sandbox.exec(["python3", "-c", code], on_output=lambda _, data: seen.append(data))
    assert heard.ok
    assert b"".join(seen) == bytes(range(256)) * 8192


async def test_trap_11_daemons_survive_what_started_them(sandbox: DaytonaSandbox) -> None:
    started = await sandbox.exec("nohup sleep 986006 >/dev/null 2>&1 & echo $!")
    assert (await sandbox.exec("true")).ok
    assert await is_running(sandbox, int(started.stdout))


async def test_trap_13_a_command_that_would_wait_for_stdin_does_not_hang(
    sandbox: DaytonaSandbox,
) -> None:
    assert (await sandbox.exec("cat", timeout=DEADLINE)).stdout == ""
    assert (await sandbox.exec("cat <<'X'\nhere\nX", timeout=DEADLINE)).stdout == "here\n"
    async with await sandbox.start("cat") as process:
        await process.send(b"asked ")
        await process.send(b"and answered")
        await process.send_eof()
        assert (await process.wait()).stdout == "asked and answered"
