"""Commands in the conformance server's toolbox end as the daemon's do, traps included."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp
import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    CodeRunParams,
    DaytonaBadRequestError,
    DaytonaConnectionError,
    DaytonaError,
    DaytonaTimeoutError,
)
from daytona_toolbox_api_client_async.exceptions import ApiException

from paddock.testing.daytona.toolbox.shells import SEARCH_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from daytona import AsyncSandbox

    from paddock.testing.daytona.toolbox import Toolbox
    from tests.conftest import Require
    from tests.unit.daytona_server.toolbox.conftest import Bell

DEADLINE = 60.0
"""Seconds for what takes milliseconds."""

Ended = Callable[[int], Awaitable[None]]


async def test_both_streams_of_a_command_come_merged_in_one_text(sandbox: AsyncSandbox) -> None:
    answer = await sandbox.process.exec("echo out; echo err >&2; exit 3")
    assert (answer.exit_code, answer.result) == (3, "out\nerr\n")


async def test_a_program_that_reads_stdin_eats_the_rest_of_the_script(
    sandbox: AsyncSandbox,
) -> None:
    answer = await sandbox.process.exec("read line\necho eaten\necho got $line")
    assert answer.result == "got echo eaten\n"


async def test_invalid_utf8_becomes_the_replacement_character_and_nul_survives(
    sandbox: AsyncSandbox,
) -> None:
    answer = await sandbox.process.exec(r"printf 'a\377b\000c'")
    assert answer.result == "a\ufffdb\0c"


async def test_a_shell_killed_by_a_signal_has_exit_code_minus_one(sandbox: AsyncSandbox) -> None:
    assert (await sandbox.process.exec("kill -KILL $$")).exit_code == -1
    assert (await sandbox.process.exec("bash -c 'kill -KILL $$'; exit $?")).exit_code == 137


async def test_a_missing_working_folder_is_exit_code_minus_one_and_no_error(
    sandbox: AsyncSandbox, toolbox: Toolbox
) -> None:
    answer = await sandbox.process.exec("echo never", cwd="/no/such/folder")
    assert answer.exit_code == -1
    assert answer.result.startswith("fork/exec /")
    assert answer.result.endswith(": no such file or directory")
    assert toolbox.executions == 0


async def test_a_background_child_that_holds_the_output_holds_the_answer(
    sandbox: AsyncSandbox,
) -> None:
    before = time.monotonic()
    answer = await sandbox.process.exec("sleep 0.5 & echo now")
    assert answer.result == "now\n"
    assert time.monotonic() - before >= 0.5

    async with asyncio.timeout(DEADLINE):
        await sandbox.process.exec("sleep 60 >/dev/null 2>&1 & echo now")


async def test_a_timeout_kills_the_group_and_is_408(
    sandbox: AsyncSandbox, bell: Bell, ended: Ended
) -> None:
    with pytest.raises(DaytonaTimeoutError) as caught:
        await sandbox.process.exec("echo $$ > bell; sleep 60; echo late", timeout=1)
    assert caught.value.status_code == 408
    assert caught.value.code == "REQUEST_TIMEOUT"
    assert caught.value.source == "DAYTONA_DAEMON"
    assert "command execution timeout" in str(caught.value)
    await ended(int(await bell.hear()))


async def test_a_child_that_left_the_group_survives_the_timeout(
    sandbox: AsyncSandbox, toolbox: Toolbox, bell: Bell, gate: Bell, ended: Ended
) -> None:
    with pytest.raises(DaytonaTimeoutError):
        await sandbox.process.exec(
            "setsid sh -c 'read x < gate; echo $$ > bell; sleep 60' & sleep 60", timeout=1
        )
    gate.ring()
    survivor = int(await bell.hear())
    await toolbox.stop()
    await ended(survivor)


async def test_a_command_goes_on_when_its_client_hangs_up(
    sandbox: AsyncSandbox, bell: Bell, gate: Bell
) -> None:
    call = asyncio.ensure_future(
        sandbox.process.exec("echo begun > bell; read x < gate; echo ended > bell")
    )
    assert await bell.hear() == "begun"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gate.ring()
    assert await bell.hear() == "ended"


async def test_a_name_that_is_no_variable_is_refused(
    sandbox: AsyncSandbox, toolbox: Toolbox
) -> None:
    with pytest.raises(DaytonaBadRequestError) as caught:
        await sandbox.process.exec("echo never", env={"not-a-name": "1"})
    assert caught.value.code == "BAD_REQUEST"
    assert toolbox.executions == 0


async def test_an_empty_command_is_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(DaytonaBadRequestError):
        await sandbox.process.exec("")


async def test_a_command_sees_the_variables_of_the_sandbox_and_its_own_and_no_others(
    sandbox: AsyncSandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_SERVER", "secret")
    answer = await sandbox.process.exec(
        'echo "$OF_THE_BOX $OWN $OF_THE_SERVER."; pwd; echo $HOME', env={"OWN": "it's $HOME"}
    )
    assert answer.result == f"yes it's $HOME .\n{home}\n{home}\n"


async def test_changed_variables_are_those_of_later_commands(sandbox: AsyncSandbox) -> None:
    await sandbox.update_env({"ADDED": "now"}, unset=["OF_THE_BOX"])
    answer = await sandbox.process.exec('echo "$ADDED-$OF_THE_BOX"')
    assert answer.result == "now-\n"


# The SDK gives aiohttp the whole body at once, which aiohttp warns of above 1 MiB.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_a_megabyte_of_command_text_works(sandbox: AsyncSandbox, toolbox: Toolbox) -> None:
    answer = await sandbox.process.exec(f"cat <<'END' | wc -c\n{'x' * (1 << 20)}\nEND")
    assert answer.result.strip() == str((1 << 20) + 1)
    assert toolbox.executions == 1


async def test_a_call_that_is_not_served_says_so(sandbox: AsyncSandbox) -> None:
    with pytest.raises(DaytonaError, match="POST /lsp/start is not served here") as caught:
        await sandbox.create_lsp_server("python", "project").start()
    assert caught.value.status_code == 501


async def test_a_time_limit_below_none_is_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(DaytonaError) as caught:
        await sandbox.process.exec("true", timeout=-1)
    assert caught.value.status_code == 400


async def test_the_folders_of_the_sandbox_are_told(sandbox: AsyncSandbox, home: Path) -> None:
    assert await sandbox.get_work_dir() == str(home)
    assert await sandbox.get_user_home_dir() == str(home)


async def test_stopping_kills_daemons_that_left_everything(
    sandbox: AsyncSandbox, toolbox: Toolbox, bell: Bell, ended: Ended
) -> None:
    await sandbox.process.exec(
        "(setsid sh -c 'echo $$ > bell; sleep 60' >/dev/null 2>&1 &) >/dev/null 2>&1"
    )
    daemon = int(await bell.hear())
    os.kill(daemon, 0)  # it outlives its command
    await toolbox.stop()
    await ended(daemon)


async def test_stopping_cuts_the_connection_of_a_call_that_is_open(
    sandbox: AsyncSandbox, toolbox: Toolbox, bell: Bell
) -> None:
    call = asyncio.ensure_future(sandbox.process.exec("echo begun > bell; sleep 60"))
    await bell.hear()
    await toolbox.stop()
    with pytest.raises(DaytonaConnectionError):
        await call


async def test_a_stopped_toolbox_starts_again_with_its_files(
    sandbox: AsyncSandbox, toolbox: Toolbox
) -> None:
    await sandbox.process.exec("echo kept > file")
    await toolbox.stop()
    await toolbox.start()
    assert (await sandbox.process.exec("cat file")).result == "kept\n"


async def test_removing_deletes_the_files(toolbox: Toolbox, home: Path, tmp_path: Path) -> None:
    (home / "folder").mkdir()
    (home / "folder" / "file").touch()
    (home / "folder").chmod(0o500)
    await toolbox.remove()
    assert not (tmp_path / "box").exists()


async def test_a_hundred_commands_run_at_once(sandbox: AsyncSandbox, toolbox: Toolbox) -> None:
    async with asyncio.timeout(60):
        answers = await asyncio.gather(
            *(sandbox.process.exec(f"echo {number}") for number in range(100))
        )
    assert [int(answer.result) for answer in answers] == list(range(100))
    assert toolbox.executions == 100


async def test_code_runs_with_its_arguments_and_variables(sandbox: AsyncSandbox) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ['OWN']); sys.exit(4)"
    answer = await sandbox.process.code_run(
        code, CodeRunParams(argv=["one", "two words"], env={"OWN": "mine"})
    )
    assert (answer.exit_code, answer.result) == (4, "['one', 'two words'] mine\n")


@pytest.mark.parametrize("language", ["javascript", "typescript"])
async def test_code_is_run_by_node(address: str, language: str, require: Require) -> None:
    require("node", shutil.which("node", path=SEARCH_PATH), f"there is none on {SEARCH_PATH}")
    order = {"code": "console.log(1 + 1)", "language": language}
    url = f"http://{address}/toolbox/box/process/code-run"
    async with aiohttp.ClientSession() as client, client.post(url, json=order) as answer:
        told = await answer.json()
    assert (answer.status, told["exitCode"], told["result"]) == (200, 0, "2\n")


async def test_code_that_takes_too_long_is_408_in_the_raw_exception_of_the_client(
    sandbox: AsyncSandbox,
) -> None:
    with pytest.raises(ApiException) as caught:
        await sandbox.process.code_run("import time; time.sleep(60)", timeout=1)
    assert caught.value.status == 408
