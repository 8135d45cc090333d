"""Images with a USER: whom commands and files belong to, and commands as others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, DockerBackend, ExecTimeout, Image, Unsupported
from paddock.backends.docker.containers.sandbox import DockerSandbox
from paddock.sandbox import Capability
from tests.contract.conftest import PATH, WITHOUT_PYTHON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.docker


def _with_user(image: Image) -> Image:
    return image.run_commands("groupadd -g 777 extra && useradd -m -G extra dev").user("dev")


WITH_GUEST = DockerBackend(
    image=_with_user(Image.from_registry("paddock:base")), network="none", working_dir="/made/here"
)
WITHOUT_GUEST = replace(WITH_GUEST, image=_with_user(WITHOUT_PYTHON), env_vars={"PATH": PATH})
WHO = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME"
DEV = ["1000", "1000", "1000 777", "/home/dev dev dev"]


@pytest.fixture(params=[WITH_GUEST, WITHOUT_GUEST], ids=["guest", "no-python"])
def recipe(request: pytest.FixtureRequest, engine: Engine) -> DockerBackend:
    found: DockerBackend = request.param
    return found


@pytest.fixture
async def sandbox(recipe: DockerBackend, tmp_path: Path) -> AsyncIterator[Sandbox]:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("from here")
    uploads = [(str(tmp_path / "there"), "tree"), (str(tmp_path / "there" / "file"), "file")]
    async with replace(recipe, uploads=uploads).sandbox() as sandbox:
        yield sandbox


async def test_commands_and_files_are_the_images_users(sandbox: Sandbox) -> None:
    assert (await sandbox.exec(WHO)).stdout.splitlines() == DEV
    await sandbox.fs.write_text("written", "text")
    await sandbox.fs.write_bytes("large", bytes(2 << 20))
    await sandbox.fs.mkdir("made/below")
    found = await sandbox.exec("stat -c %U:%G . tree tree/file file written large made made/below")
    assert set(found.stdout.split()) == {"dev:dev"}
    with pytest.raises(PermissionError):
        await sandbox.fs.write_text("/etc/x", "")


async def test_a_command_runs_as_root_or_as_any_other_user(sandbox: Sandbox) -> None:
    assert Capability.USER in sandbox.capabilities
    for user, expected in {
        "root": ["0", "0", "0", "/root root root"],
        "dev": DEV,
        "1000:1000": ["1000", "1000", "1000"],
        "dev:extra": ["1000", "777", "777", "/home/dev dev dev"],
        "4242": ["4242", "0", "0"],
        "4242:4243": ["4242", "4243", "4243"],
    }.items():
        found = (await sandbox.exec(WHO, user=user)).stdout.splitlines()
        assert found[: len(expected)] == expected, user
    installed = await sandbox.exec("install -o root -m 600 /dev/null /etc/made", user="root")
    assert installed.ok
    for unknown in ("nosuch", "dev:nosuch", "nosuch:dev", "4294967294", "-1"):
        with pytest.raises(ConfigError, match=f"^user='{unknown}': the sandbox has no such user"):
            await sandbox.exec("true", user=unknown)


async def test_a_command_of_root_ends_with_all_that_it_started(sandbox: Sandbox) -> None:
    with pytest.raises(ExecTimeout):
        await sandbox.exec(
            "trap '' TERM; setsid sleep 985000 & sleep 985001", user="root", timeout=1
        )
    assert not (await sandbox.exec("pgrep -f 'sleep 98500[01]'")).ok
    async with await sandbox.start("exec sleep 985002", user="root") as process:
        await process.signal(15)
        assert (await process.wait()).exit_code == 143


async def test_a_signal_that_comes_while_a_command_starts_is_not_lost(engine: Engine) -> None:
    async def end_at_once(sandbox: Sandbox) -> int:
        async with await sandbox.start("exec sleep 985003", user="root") as process:
            await process.signal(15)
            return (await process.wait()).exit_code

    async with WITH_GUEST.sandbox() as sandbox, asyncio.timeout(60):
        for _ in range(3):
            ended = await asyncio.gather(*(end_at_once(sandbox) for _ in range(15)))
            assert set(ended) == {143}


async def test_what_the_image_sets_takes_precedence_over_a_login(engine: Engine) -> None:
    image = _with_user(Image.from_registry("paddock:base")).env({"HOME": "/opt", "LOGNAME": "me"})
    async with replace(WITH_GUEST, image=image).sandbox() as sandbox:
        who = "echo $HOME $USER $LOGNAME"
        assert (await sandbox.exec(who)).stdout == "/opt dev me\n"
        assert (await sandbox.exec(who, user="root")).stdout == "/opt root me\n"
        given = await sandbox.exec(who, user="root", env={"HOME": "/given", "USER": "you"})
        assert given.stdout == "/given you me\n"


async def test_forks_and_hosts_that_join_have_the_same_user(engine: Engine) -> None:
    async with replace(WITH_GUEST, lease=None).sandbox() as sandbox:
        joined = await DockerBackend(network="none").attach(sandbox.id)
        forks = await sandbox.fork()
        for other in (joined, *forks):
            assert (await other.exec(WHO)).stdout.splitlines() == DEV
            assert (await other.exec("id -un", user="root")).stdout == "root\n"
        for fork in forks:
            await fork.aclose()
        await joined.detach()


async def test_where_no_command_can_change_users_the_error_says_what_to_set(
    engine: Engine,
) -> None:
    async with replace(WITH_GUEST, hardening="strict").sandbox() as sandbox:
        assert isinstance(sandbox, DockerSandbox)
        with pytest.raises(Unsupported, match=r"user='root'; .*hardening='default'"):
            await sandbox.exec("true", user="root")
    with pytest.raises(ConfigError, match=r"^user='dev': the sandbox has no such user"):
        await DockerBackend(network="none", user="dev").create()


async def test_an_image_without_lists_of_users_takes_numbers(engine: Engine) -> None:
    image = Image.from_registry("paddock:base").run_commands("rm /etc/passwd /etc/group")
    async with DockerBackend(image=image, network="none", user="1000:1000").sandbox() as sandbox:
        assert (await sandbox.exec(WHO)).stdout.splitlines() == ["1000", "1000", "1000", "/"]
        assert (await sandbox.exec("id -u", user="0")).stdout == "0\n"
        with pytest.raises(ConfigError, match="as in user='1000:1000'"):
            await sandbox.exec("true", user="root")
