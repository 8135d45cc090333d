"""What a recipe becomes in Daytona: variables, snapshots, images, regions; and what it says."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError, SandboxError
from paddock.image import Image
from paddock.testing.daytona import FailWith, Status
from tests.e2e.daytona.served import DEADLINE, UPLOAD, made

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.daytona import DaytonaBackend
    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from tests.e2e.conftest import Daytona

PATH = "/opt/conda/bin:/usr/local/bin:/usr/bin:/bin"
SNAPSHOT = "POST /api/sandbox/.*/snapshot"
FORK = "POST /api/sandbox/.*/fork"


@pytest.fixture
def plain(daytona: Daytona) -> DaytonaBackend:
    """A recipe without variables, of the account's default snapshot."""
    return replace(daytona.recipe, env_vars={}, snapshot="")


@pytest.mark.rows("S-56")
async def test_no_variable_is_sent_that_nobody_gave(
    daytona: Daytona, plain: DaytonaBackend
) -> None:
    async with made(replace(plain, env_vars={"MINE": "1"})) as sandbox:
        (there,) = daytona.server.sandboxes.values()
        assert there.env == {"MINE": "1"}
        assert (await sandbox.exec("echo $MINE")).stdout == "1\n"
    async with made(plain):
        (there,) = daytona.server.sandboxes.values()
        assert there.env == {}
        assert there.settings["snapshot"] == "daytonaio/sandbox:latest"


@pytest.mark.rows("S-56")
async def test_variables_of_the_image_are_its_own(plain: DaytonaBackend) -> None:
    image = Image.from_registry("debian:12").env({"PATH": PATH, "MADE": "there"})
    async with made(replace(plain, snapshot=None, image=image)) as sandbox:
        told = (await sandbox.exec("echo $PATH; echo $MADE")).stdout.splitlines()
    assert told == [PATH, "there"]


@pytest.mark.rows("S-56")
def test_programs_of_the_user_are_on_the_path_of_the_uv_step_alone(plain: DaytonaBackend) -> None:
    install, own = replace(plain, uv_version="0.9.5", setup=["make"]).setup_commands()
    assert install.startswith('PATH="$PATH:$HOME/.local/bin"')
    assert own == "make"
    given = replace(plain, uv_version="0.9.5", env_vars={"PATH": "/mine"})
    assert not given.setup_commands()[0].startswith("PATH=")


async def test_a_recipe_without_variables_gets_a_sandbox_of_a_warm_pool(
    daytona: Daytona, plain: DaytonaBackend
) -> None:
    async with plain.account() as account:
        await account.client.warm_pool.create("daytonaio/sandbox:latest", 1)
    daytona.server._fleet.delays["creating"] = DEADLINE * 10  # nobody waits for one
    async with asyncio.timeout(DEADLINE), made(plain) as sandbox:
        assert (await sandbox.exec("echo warm")).stdout == "warm\n"


async def test_an_unknown_region_is_told_with_those_there_are(
    daytona: Daytona, plain: DaytonaBackend
) -> None:
    with pytest.raises(ConfigError, match=r"target='mars': Daytona has no such region.* eu, us"):
        await replace(plain, target="mars").create()
    assert not daytona.living


async def test_an_image_that_is_there_already_makes_progress_too(plain: DaytonaBackend) -> None:
    recipe = replace(plain, snapshot=None, image="debian:12")
    seen: list[list[str]] = []
    for _ in range(2):
        told: list[str] = []
        async with recipe.sandbox(
            on_progress=lambda step, told=told: told.append(f"{step.step}: {step.detail}")  # type: ignore[misc]
        ):
            seen.append([line for line in told if line.startswith("image: ")])
    built, cached = seen
    assert built[0] == cached[0] == "image: asking Daytona for debian:12"
    assert any("FROM debian:12" in line for line in built)
    assert cached[1:] == ["image: Daytona had debian:12 already: nothing was built"]


async def test_a_snapshot_that_fails_unseen_is_an_error(
    daytona: Daytona, sandbox: DaytonaSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.daytona.snapshots.APPEARING", 1.0)
    daytona.server.faults.add(match=SNAPSHOT, kind=FailWith(state="error", reason="no room"))
    with pytest.raises(SandboxError, match="did not take the snapshot mine"):
        await sandbox.snapshot("mine")
    assert (await sandbox.exec("echo on")).stdout == "on\n"


async def test_a_snapshot_whose_name_is_taken_is_refused_before(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    await sandbox.snapshot("mine")
    with pytest.raises(ConfigError, match="a snapshot called mine exists"):
        await sandbox.snapshot("mine")
    assert daytona.server.count("POST", "/sandbox/.*/snapshot") == 1


async def test_a_snapshot_is_there_when_the_call_returns(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    daytona.server._fleet.delays["snapshotting"] = 1.5
    image = await sandbox.snapshot("mine")
    async with made(replace(daytona.recipe, snapshot=None, image=image)) as again:
        assert (await again.exec("echo begun")).stdout == "begun\n"


async def test_a_fork_that_fails_is_an_error_and_leaves_nothing(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    daytona.server.faults.add(match=FORK, kind=FailWith(state="error", reason="no room"))
    with pytest.raises(SandboxError):
        await sandbox.fork()
    await daytona.server.settled()
    assert daytona.living == [sandbox.id]


async def test_what_is_written_from_memory_goes_by_the_upload_stream(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    big = os.urandom(3_000_000)

    async def requests(call: object) -> list[str]:
        before = len(daytona.server.requests)
        assert await call is not False  # type: ignore[misc]
        return [each.route.rpartition("/")[2] for each in daytona.server.requests[before:]]

    assert await requests(sandbox.fs.write_bytes("big", big)) == ["bulk-upload", "execute"]
    assert await requests(sandbox.fs.append("big", big)) == ["bulk-upload", "execute"]
    assert await sandbox.fs.read_bytes("big") == big + big
    with pytest.raises(FileExistsError, match="big"):
        await sandbox.fs.write_bytes("big", big, exclusive=True)
    before = len(daytona.server.requests)
    result = await sandbox.exec("cat > copy; cmp copy - </dev/null; head -c 3 copy", stdin=big)
    assert result.stdout_bytes == big[:3]
    routes = [each.route.rpartition("/")[2] for each in daytona.server.requests[before:]]
    assert routes == ["bulk-upload", "execute"]
    assert await sandbox.fs.read_bytes("copy") == big
    left = await sandbox.exec(f"ls -A {sandbox.fs._folder} 2>/dev/null")
    assert left.stdout == ""


async def test_a_command_that_does_not_read_its_large_stdin_ends(sandbox: DaytonaSandbox) -> None:
    big = bytes(3_000_000)
    assert (await sandbox.exec("head -c 5 | wc -c", stdin=big)).stdout.strip() == "5"
    assert (await sandbox.exec(["true"], stdin=big)).ok
    with pytest.raises(NotADirectoryError):
        await sandbox.exec("true", stdin=big, cwd="/etc/passwd")
    left = await sandbox.exec(f"ls -A {sandbox.fs._folder} 2>/dev/null")
    assert left.stdout == ""


async def test_errors_of_transfers_name_the_path_that_was_given(
    daytona: Daytona, sandbox: DaytonaSandbox, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(1_000_000))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(bytes(1_000_000))
    for call in (
        lambda: sandbox.fs.upload_file(tmp_path / "big", "/proc/mine"),
        lambda: sandbox.fs.write_bytes("/proc/mine", bytes(1_000_000)),
        lambda: sandbox.fs.upload(tmp_path / "tree", "/proc/mine"),
    ):
        with pytest.raises(OSError, match="/proc/mine") as caught:
            await call()
        assert ".paddock-" not in str(caught.value)
    message = f"no space left on device: {sandbox.fs._folder}"
    kind = Status(status=507, message=message)
    daytona.server.faults.add(match=UPLOAD, kind=kind, times=None)
    with pytest.raises(SandboxError, match=r"uploading /srv/mine: .*no space left"):
        await sandbox.fs.write_bytes("/srv/mine", bytes(1_000_000))


async def test_a_sandbox_in_an_error_is_recovered_by_who_attaches(daytona: Daytona) -> None:
    recipe = replace(daytona.recipe, lease=None)
    sandbox = await recipe.create()
    await sandbox.detach()
    fleet = daytona.server._fleet
    (there,) = fleet.sandboxes.values()
    await there.toolbox.stop()
    fleet._fail(there, "error", "its disk was full", recoverable=True)
    with pytest.raises(SandboxError, match=r"its disk was full.*attach\(id, recover=True\)"):
        await recipe.attach(sandbox.id)
    async with await recipe.attach(sandbox.id, recover=True) as again:
        assert (await again.exec("echo back")).stdout == "back\n"


async def test_searches_pass_over_what_the_service_keeps_in_a_home(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    await sandbox.native.process.create_session("one")
    await sandbox.exec("mkfifo pipe; echo word > file; ln -s file link", check=True)
    assert (await sandbox.exec("test -d .daytona")).ok
    names = [path.name for path in (await sandbox.fs.glob("**/*")).paths]
    assert names == ["file", "link"]
    found = await sandbox.fs.grep("word|daytona|echo", ".")
    assert {match.path.name for match in found.lines} == {"file"}


async def test_what_a_sandbox_uses_is_told_by_both_of_the_service_s_ways(
    sandbox: DaytonaSandbox,
) -> None:
    latest = await sandbox.native.get_metrics_latest()
    (collected,) = await sandbox.native.get_metrics()
    assert collected.cpu_count == latest.cpu_count
    assert 0 < latest.mem_used < latest.mem_total
