"""Each numbered trap of Daytona's service, in front of a server that has it: we are not caught.

The numbers are those of section B of what is specified of Daytona: what the service and its
SDK are known to do to those who use them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.daytona import long_poll, making, service
from paddock.errors import ExecTimeout, SandboxClosed, SandboxError, SandboxLost
from paddock.testing.daytona import Delay, DropAfter, DropBefore, Status, StuckIn
from tests.e2e.daytona.served import DEADLINE, EXECUTE, made

if TYPE_CHECKING:
    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from tests.e2e.conftest import Daytona


async def test_trap_08_fractions_of_seconds_never_meet_the_strict_models(
    daytona: Daytona,
) -> None:
    async with made(replace(daytona.recipe, lease=90.5, create_timeout=30.5)) as sandbox:
        (there,) = daytona.server.sandboxes.values()
        assert there.settings["autoStopInterval"] == 2  # whole minutes, no less than the lease
        assert (await sandbox.exec("echo x", timeout=7.25)).ok
        with pytest.raises(ExecTimeout):
            await sandbox.exec("exec sleep 986005", timeout=0.25)


async def test_trap_12_output_is_followed_without_a_websocket(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    seen: list[bytes] = []
    server = daytona.server
    server.faults.add(match=EXECUTE, kind=DropAfter(), times=2, after=1)
    command = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"
    assert (await sandbox.exec(command, on_output=lambda _, data: seen.append(data))).ok
    assert b"".join(seen) == b"1\n2\n3\n4\n5\n6\n"  # nothing twice, nothing lost
    ways = {each.route for each in server.requests if each.path.startswith("/toolbox")}
    assert ways == {"/process/execute"}


async def test_trap_14_a_long_command_is_many_short_requests_and_runs_once(
    daytona: Daytona, sandbox: DaytonaSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_poll, "PATIENCE", 0.3)
    before = daytona.server.count("POST", "/process/execute")
    await sandbox.exec("echo x >> runs; sleep 1.5", check=True)
    requests = daytona.server.count("POST", "/process/execute") - before
    assert 2 <= requests <= 7
    assert await sandbox.fs.read_text("runs") == "x\n"


async def test_trap_15_uploads_are_streamed_to_where_they_belong(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    big = os.urandom(3 * 1024 * 1024)
    (tmp_path / "big").write_bytes(big)
    await sandbox.fs.mkdir("a/b", parents=True)
    await sandbox.fs.upload_file(tmp_path / "big", "a/b/big")
    assert (await sandbox.exec("cat $PWD/a/b/big")).stdout_bytes[:16] == big[:16]
    assert await sandbox.fs.read_bytes(f"{sandbox.working_dir}/a/b/big") == big
    assert daytona.server.count("POST", "/files/bulk-upload") == 1
    await sandbox.fs.write_text("file", "no folder")
    with pytest.raises(NotADirectoryError):
        await sandbox.fs.upload_file(tmp_path / "big", "file/inside")


async def test_trap_15_an_upload_that_hangs_can_be_given_up(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(1024 * 1024))
    fault = daytona.server.faults.add(match="POST .*/bulk-upload", kind=Delay(seconds=3600))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await sandbox.fs.upload_file(tmp_path / "big", "big")
    assert fault.fired == 1
    assert not await sandbox.fs.exists("big")


async def test_trap_16_downloads_take_keywords_and_strange_names(
    sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    big = os.urandom(2 * 1024 * 1024) + b"--DAYTONA-FILE-BOUNDARY\r\n"
    (tmp_path / "big").write_bytes(big)
    for name in ("plain", "with space", 'with"quote', "über"):
        await sandbox.fs.upload_file(tmp_path / "big", name)
        await sandbox.fs.download_file(source=name, destination=tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == big


async def test_trap_17_a_confused_refusal_is_not_the_end(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    for status in (400, 502):
        message = "failed to resolve container IP after 3 attempts"
        fault = daytona.server.faults.add(
            match=EXECUTE, kind=Status(status=status, message=message)
        )
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"
        assert fault.fired == 1


async def test_trap_17_a_sandbox_that_was_stopped_is_told_so(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    await sandbox.native.stop()
    with pytest.raises(SandboxLost, match=r"stopped|deleted"):
        await sandbox.exec("true")


async def test_trap_17_a_sandbox_in_use_is_not_stopped_for_idleness(daytona: Daytona) -> None:
    async with made(replace(daytona.recipe, lease=0.3)) as sandbox:
        (there,) = daytona.server.sandboxes.values()
        assert there.settings["autoStopInterval"] == 1
        renewals = 0
        for _ in range(3):  # in all more than the minute, in steps that are much less
            async with asyncio.timeout(DEADLINE):
                while daytona.server.count("POST", "/sandbox/.*/last-activity") <= renewals:
                    await sandbox.exec("true")
            renewals = daytona.server.count("POST", "/sandbox/.*/last-activity")
            daytona.server.clock.advance(25)
        assert (await sandbox.exec("echo here")).stdout == "here\n"
    async with made(replace(daytona.recipe, lease=None)):
        settings = [each.settings for each in daytona.server.sandboxes.values()]
        assert settings[-1]["autoStopInterval"] == 0  # and not the service's 15 minutes


async def test_trap_18_a_creation_that_timed_out_leaves_no_orphan(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SOON", 0.1)
    daytona.server.faults.add(match="POST /api/sandbox", kind=StuckIn(state="creating"))
    with pytest.raises(SandboxError, match="exceeded timeout"):
        await replace(daytona.recipe, create_timeout=1).create()
    daytona.server.release()  # until then the service deletes none
    await daytona.let_go()
    assert not daytona.living


@pytest.mark.parametrize("kind", [DropBefore(), DropAfter()])
async def test_trap_18_a_creation_whose_answer_was_lost_makes_one_sandbox(
    daytona: Daytona, kind: DropBefore | DropAfter
) -> None:
    daytona.server.faults.add(match="POST /api/sandbox", kind=kind)
    async with made(daytona.recipe) as sandbox:
        assert daytona.living == [sandbox.id]


async def test_trap_19_throttling_is_waited_out_as_the_service_says(daytona: Daytona) -> None:
    headers = {"Retry-After": "1", "X-RateLimit-Remaining-sandbox-create": "0"}
    fault = daytona.server.faults.add(
        match="POST /api/sandbox", kind=Status(status=429, headers=headers)
    )
    before = asyncio.get_running_loop().time()
    async with made(daytona.recipe):
        assert asyncio.get_running_loop().time() - before >= 1
    assert fault.fired == 1
    assert daytona.server.count("POST", "/sandbox") == 2


async def test_trap_20_sandboxes_share_a_client_and_the_last_closes_it(daytona: Daytona) -> None:
    one, two = await asyncio.gather(daytona.recipe.create(), daytona.recipe.create())
    assert len(service._services[asyncio.get_running_loop()]) == 1
    await one.aclose()
    assert (await two.exec("echo still")).stdout == "still\n"
    await two.aclose()
    assert not service._services[asyncio.get_running_loop()]
    requests = len(daytona.server.requests)
    for closed in (one, two):
        with pytest.raises(SandboxClosed):
            await closed.exec("true")
        with pytest.raises(SandboxClosed):
            await closed.fs.read_text("x")
        with pytest.raises(SandboxClosed):
            await closed.url(80)
    assert len(daytona.server.requests) == requests  # nothing opened a connection again


async def test_trap_20_each_loop_has_a_client_of_its_own(daytona: Daytona) -> None:
    async def elsewhere() -> str:
        async with made(daytona.recipe) as sandbox:
            return (await sandbox.exec("echo there")).stdout

    async with made(daytona.recipe) as sandbox:
        assert await asyncio.to_thread(asyncio.run, elsewhere()) == "there\n"
        assert (await sandbox.exec("echo here")).stdout == "here\n"


async def test_trap_21_connecting_to_one_address_after_the_other_can_be_turned_off(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYTONA_HAPPY_EYEBALLS_DELAY", "none")  # for loops that cannot do it
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"


async def test_trap_22_the_synchronous_client_is_never_made(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daytona as sdk

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the synchronous client was made")

    monkeypatch.setattr(sdk.Daytona, "__init__", refuse)
    before = signal.getsignal(signal.SIGALRM)
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine", timeout=60)).ok
        assert signal.getsignal(signal.SIGALRM) == before


async def test_trap_22_the_deprecated_package_is_not_imported(sandbox: DaytonaSandbox) -> None:
    assert sandbox.native is not None
    assert "daytona_sdk" not in sys.modules


async def test_trap_23_what_the_service_forgets_to_list_is_not_asked_of_it(
    daytona: Daytona,
) -> None:
    recipe = replace(daytona.recipe, lease=None, labels={"of": "mine"})
    recipe = replace(recipe, env_vars={**recipe.env_vars, "KEPT": "yes"})
    async with made(recipe) as sandbox:
        (info,) = await daytona.recipe.list({"of": "mine"})
        assert (info.id, info.state, info.labels["of"]) == (sandbox.id, "running", "mine")
        attached = await daytona.recipe.attach(sandbox.id)
        assert (await attached.exec("echo $KEPT")).stdout == "yes\n"
        await attached.detach()


async def test_trap_23_a_state_that_events_change_is_read_afresh(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    sandbox.native.state = type(sandbox.native.state)("stopped")  # as a late event would
    daytona.server.faults.add(match=EXECUTE, kind=Status(status=502, body="html"))
    assert (await sandbox.exec("echo fine")).stdout == "fine\n"


async def test_trap_24_keys_tokens_and_variables_are_in_no_log_and_no_error(
    daytona: Daytona, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = daytona.server
    recipe = replace(
        daytona.recipe, env_vars={**daytona.recipe.env_vars, "PASSWORD": "open sesame"}
    )
    said: list[str] = []
    async with made(recipe) as sandbox:
        preview = await sandbox.preview(8000)
        (token,) = preview.headers.values()
        signed = await sandbox.signed_url(8000)
        said += [repr(preview), str(sandbox), repr(sandbox)]
        server.faults.add(match=EXECUTE, kind=Status(status=502), times=1)
        await sandbox.exec("true")
        await sandbox.native.delete()
        with pytest.raises(SandboxLost) as lost:
            await sandbox.exec("true")
        said += [str(lost.value), repr(lost.value)]
    server.faults.add(match="POST /api/sandbox", kind=Status(status=401))
    with pytest.raises(ValueError, match="DAYTONA_API_KEY") as refused:
        await recipe.create()
    said += [str(refused.value), repr(refused.value), *caplog.messages, caplog.text]
    for secret in (server.api_key, token, signed, "open sesame"):
        assert not [text for text in said if secret in text]


def test_every_trap_has_a_test() -> None:
    files = Path(__file__).parent.glob("test_traps_*.py")
    text = "".join(file.read_text() for file in files)
    numbers = set(re.findall(r"def test_trap_(\d\d)_", text))
    assert numbers == {f"{number:02}" for number in range(1, 25)}
