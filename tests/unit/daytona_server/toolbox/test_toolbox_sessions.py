"""Sessions in the conformance server's toolbox live, hang and die as the daemon's do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    DaytonaConflictError,
    DaytonaConnectionError,
    DaytonaGoneError,
    DaytonaNotFoundError,
    SessionExecuteRequest,
)

if TYPE_CHECKING:
    from daytona import AsyncSandbox
    from daytona.common.process import SessionExecuteResponse

    from paddock.testing.daytona.toolbox import Toolbox
    from tests.unit.daytona_server.toolbox.conftest import Bell

DEADLINE = 60.0
"""Seconds for what takes milliseconds."""

Ended = Callable[[int], Awaitable[None]]


async def run(sandbox: AsyncSandbox, command: str) -> SessionExecuteResponse:
    request = SessionExecuteRequest(command=command)
    return await sandbox.process.execute_session_command("one", request, timeout=30)


async def begin(sandbox: AsyncSandbox, command: str, *, quiet: bool = False) -> str:
    request = SessionExecuteRequest(command=command, run_async=True, suppress_input_echo=quiet)
    answer = await sandbox.process.execute_session_command("one", request, timeout=30)
    assert answer.exit_code is None
    return answer.cmd_id


async def followed(sandbox: AsyncSandbox, command: str) -> tuple[str, str]:
    out: list[str] = []
    err: list[str] = []
    async with asyncio.timeout(DEADLINE):
        await sandbox.process.get_session_command_logs_async("one", command, out.append, err.append)
    return "".join(out), "".join(err)


@pytest.fixture(autouse=True)
async def session(sandbox: AsyncSandbox) -> None:
    await sandbox.process.create_session("one")


async def test_the_shell_of_a_session_keeps_its_folder_and_variables(
    sandbox: AsyncSandbox, toolbox: Toolbox
) -> None:
    await run(sandbox, "mkdir -p deeper && cd deeper && VALUE=kept")
    answer = await run(sandbox, 'basename "$PWD"; echo "$VALUE $OF_THE_BOX"; (exit 7)')
    assert answer.exit_code == 7
    assert answer.stdout == "deeper\nkept yes\n"
    assert toolbox.executions == 2


async def test_the_streams_are_apart_and_the_output_has_marks(sandbox: AsyncSandbox) -> None:
    answer = await run(sandbox, "echo out; echo err >&2")
    assert (answer.stdout, answer.stderr) == ("out\n", "err\n")
    assert sorted((answer.output or "").splitlines()) == ["\x01\x01\x01out", "\x02\x02\x02err"]


async def test_output_drops_nuls_and_gains_a_final_newline(sandbox: AsyncSandbox) -> None:
    answer = await run(sandbox, r"printf 'a\000b\nend'")
    assert answer.stdout == "ab\nend\n"


async def test_a_waited_for_command_has_nothing_to_read(sandbox: AsyncSandbox) -> None:
    assert (await run(sandbox, "cat; echo done")).stdout == "done\n"


@pytest.mark.parametrize("deadly", ["exit 3", "set -e; false", "exec true"])
async def test_a_command_that_ends_its_shell_hangs_and_later_ones_are_gone(
    sandbox: AsyncSandbox, bell: Bell, deadly: str
) -> None:
    waiting = asyncio.ensure_future(run(sandbox, f"echo begun > bell; {deadly}"))
    await bell.hear()
    with pytest.raises(DaytonaGoneError) as caught:
        async with asyncio.timeout(DEADLINE):
            while True:  # a call that still meets the shell would queue for ever
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(run(sandbox, "true"), 0.2)
    assert caught.value.code == "SESSION_ENDED"
    assert not waiting.done()
    command = (await sandbox.process.get_session("one")).commands[0]
    assert command.command.endswith(deadly)
    assert command.exit_code is None
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_command_in_the_background_has_no_exit_code_while_it_runs(
    sandbox: AsyncSandbox, gate: Bell
) -> None:
    command = await begin(sandbox, "read x < gate; exit_with() { return 4; }; exit_with")
    running = await sandbox.process.get_session_command("one", command)
    assert running.exit_code is None
    gate.ring()
    await followed(sandbox, command)
    assert (await sandbox.process.get_session_command("one", command)).exit_code == 4


async def test_a_waited_for_command_queues_behind_one_that_runs(
    sandbox: AsyncSandbox, bell: Bell, gate: Bell
) -> None:
    await begin(sandbox, "echo first > bell; read x < gate; echo first >> order")
    assert await bell.hear() == "first"
    second = asyncio.ensure_future(run(sandbox, "echo second >> order; cat order"))
    gate.ring()
    assert (await second).stdout == "first\nsecond\n"


async def test_following_the_log_replays_it_from_the_start_at_each_attach(
    sandbox: AsyncSandbox, gate: Bell
) -> None:
    command = await begin(sandbox, "echo one; echo two >&2; read x < gate; echo three")
    first = asyncio.ensure_future(followed(sandbox, command))
    gate.ring()
    assert await first == ("one\nthree\n", "two\n")
    assert await followed(sandbox, command) == ("one\nthree\n", "two\n")
    logs = await sandbox.process.get_session_command_logs("one", command)
    assert (logs.stdout, logs.stderr) == ("one\nthree\n", "two\n")


async def test_a_log_larger_than_a_message_of_a_websocket_is_followed_whole(
    sandbox: AsyncSandbox,
) -> None:
    command = await begin(sandbox, "head -c 6000000 /dev/zero | tr '\\0' x")
    assert await followed(sandbox, command) == ("x" * 6_000_000 + "\n", "")


async def test_input_reaches_the_command_and_is_echoed_into_its_output(
    sandbox: AsyncSandbox,
) -> None:
    command = await begin(sandbox, 'read line; echo "got $line"')
    await sandbox.process.send_session_command_input("one", command, "hello")
    assert sorted((await followed(sandbox, command))[0].splitlines()) == ["got hello", "hello"]


async def test_input_is_not_echoed_where_the_command_asked_for_that(
    sandbox: AsyncSandbox,
) -> None:
    command = await begin(sandbox, 'read line; echo "got $line"', quiet=True)
    await sandbox.process.send_session_command_input("one", command, "hello\n")
    assert await followed(sandbox, command) == ("got hello\n", "")


async def test_input_for_a_command_that_has_ended_is_gone(sandbox: AsyncSandbox) -> None:
    command = await begin(sandbox, "true")
    await followed(sandbox, command)
    with pytest.raises(DaytonaGoneError) as caught:
        await sandbox.process.send_session_command_input("one", command, "late")
    assert caught.value.code == "COMMAND_ALREADY_COMPLETED"


async def test_stdin_of_a_background_command_stays_open(sandbox: AsyncSandbox, bell: Bell) -> None:
    command = await begin(sandbox, "echo begun > bell; cat")
    await bell.hear()
    running = await sandbox.process.get_session_command("one", command)
    assert running.exit_code is None


async def test_a_background_child_that_holds_the_output_holds_the_command(
    sandbox: AsyncSandbox,
) -> None:
    before = time.monotonic()
    answer = await run(sandbox, "sleep 0.5 & echo now")
    assert answer.stdout == "now\n"
    assert time.monotonic() - before >= 0.5


async def test_deleting_a_session_kills_its_processes_those_under_nohup_included(
    sandbox: AsyncSandbox, bell: Bell, ended: Ended
) -> None:
    await run(sandbox, "nohup sh -c 'echo $$ > bell; sleep 60' >/dev/null 2>&1 &")
    survivor = int(await bell.hear())
    await sandbox.process.delete_session("one")
    await ended(survivor)
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.process.get_session("one")


async def test_a_session_has_a_name_of_its_own(sandbox: AsyncSandbox) -> None:
    with pytest.raises(DaytonaConflictError):
        await sandbox.process.create_session("one")
    await sandbox.process.create_session("two")
    assert {each.session_id for each in await sandbox.process.list_sessions()} == {"one", "two"}


async def test_a_session_or_command_that_is_not_there_is_not_found(sandbox: AsyncSandbox) -> None:
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.process.delete_session("none")
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.process.get_session_command("one", "none")


async def test_stopping_the_toolbox_ends_who_waits_and_who_follows(
    sandbox: AsyncSandbox, toolbox: Toolbox, bell: Bell
) -> None:
    command = await begin(sandbox, "echo begun > bell; sleep 60")
    await bell.hear()
    following = asyncio.ensure_future(followed(sandbox, command))
    waiting = asyncio.ensure_future(run(sandbox, "true"))
    async with asyncio.timeout(DEADLINE):
        while len((await sandbox.process.get_session("one")).commands) < 2:
            pass  # asking takes its time
    await toolbox.stop()
    with pytest.raises(DaytonaConnectionError):
        await waiting
    await asyncio.gather(following, return_exceptions=True)
    assert following.done()
