"""What only sandboxes on an SSH host have to show: who is let in, what is fenced, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Allow,
    ConfigError,
    IsolationUnavailable,
    Pty,
    SandboxError,
    SandboxLost,
    SshBackend,
    Unsupported,
)
from paddock.backends.ssh import backend as ssh
from paddock.backends.ssh import commands
from paddock.backends.ssh.keeper import LOCK, PLACE
from paddock.testing.conformance.watch import make_passable
from tests.e2e.processes import processes_with, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Paddock

DEADLINE = 60.0
"""Seconds for processes of the host to begin or to end, on a machine that is very busy."""
MAKER = """
import asyncio, sys
from paddock import SshBackend
async def main():
    config, isolation, test = sys.argv[1:]
    backend = SshBackend(host="there", config=config, isolation=isolation, labels={"test": test})
    sandbox = await backend.create()
    print(sandbox.id, flush=True)
    await sandbox.exec("setsid sleep 987001 & sleep 987001")
asyncio.run(main())
"""


@pytest.fixture
def recipe(ssh_config: Path) -> SshBackend:
    """Without a fence."""
    labels = {"test": secrets.token_hex(6)}
    return SshBackend(host="there", config=str(ssh_config), isolation="none", labels=labels)


@pytest.fixture
def fenced(recipe: SshBackend) -> SshBackend:
    return replace(recipe, isolation="bubblewrap")


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(
        wait_until, condition, within=DEADLINE, otherwise="it did not happen in time"
    )


def _left(recipe: SshBackend) -> list[str]:
    """What there is of sandboxes with the labels of `recipe`."""
    found = []
    for lock in Path(PLACE).parent.glob(f"{Path(PLACE).name}*{LOCK}"):
        with contextlib.suppress(FileNotFoundError):
            if recipe.labels["test"] in lock.read_text():
                found.append(lock.name)
    return found


def _forge_known_hosts(config: Path, folder: Path, known: str) -> str:
    """Write a configuration whose list of hosts lacks the host, or has another key for it."""
    mine = (config.parent / "key.pub").read_text()
    place = (config.parent / "known_hosts").read_text().split()[0]
    forged = "" if known == "nobody" else f"{place} {mine}"
    (folder / "known_hosts").write_text(forged)
    told = config.read_text()
    assert "StrictHostKeyChecking no" in told
    named = f"UserKnownHostsFile {config.parent}"
    assert named in told
    (folder / "config").write_text(told.replace(named, f"UserKnownHostsFile {folder}"))
    return forged


@pytest.mark.parametrize("known", ["nobody", "another"])
async def test_a_host_that_is_not_known_by_its_key_is_not_talked_to(
    recipe: SshBackend, ssh_config: Path, tmp_path: Path, known: str
) -> None:
    """The user's configuration takes any key."""
    forged = _forge_known_hosts(ssh_config, tmp_path, known)
    stranger = replace(recipe, config=str(tmp_path / "config"))
    for asking in (stranger.create(), stranger.list()):
        with pytest.raises(SandboxError, match=r"[Hh]ost key"):
            await asking
    assert (tmp_path / "known_hosts").read_text() == forged
    assert _left(recipe) == []


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=touch /tmp/x", "a b", "there;id", "$(id)", "there\nid"]
)
def test_a_host_is_neither_an_option_nor_a_command(host: str) -> None:
    with pytest.raises(ConfigError):
        SshBackend(host=host)._command({})


@pytest.mark.parametrize(
    "wrong",
    [{"network": "host"}, {"isolation": "high"}, {"working_dir": "relative"}, {"working_dir": 1}],
)
def test_what_makes_no_sense_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SshBackend(host="there", **wrong)


@pytest.mark.parametrize(
    "asked",
    [
        {"network": "none"},
        {"network": Allow(hosts=["example.org"])},
        {"isolation": "landlock"},
    ],
)
async def test_what_cannot_be_enforced_is_refused_before_anything_is_made(
    recipe: SshBackend, asked: dict[str, Any]
) -> None:
    with pytest.raises(Unsupported, match=r"network|landlock"):
        await replace(recipe, **asked).create()


async def test_a_host_without_bubblewrap_makes_no_sandbox_and_no_lower_fence(
    recipe: SshBackend, fenced: SshBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PADDOCK_ISOLATION", raising=False)
    monkeypatch.setattr(commands, "bwrap", lambda *_, **__: ["bwrap-that-is-missing"])
    for isolation in ("bubblewrap", None):
        with pytest.raises(IsolationUnavailable, match="isolation='none'"):
            await replace(fenced, isolation=isolation).create()
    assert _left(recipe) == []


async def test_the_fence_shows_nothing_of_the_host_but_its_system(
    fenced: SshBackend, tmp_path: Path
) -> None:
    (tmp_path / "canary").write_text("canary")
    look = f"""
        ls {tmp_path} /root {PLACE}* 2>/dev/null
        touch /usr/here /etc/here /here 2>/dev/null && echo wrote
        tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
        kill -0 {os.getpid()} 2>/dev/null && echo sees
        grep CapEff /proc/self/status
    """
    async with fenced.sandbox() as sandbox:
        told = (await sandbox.exec(look, timeout=60)).stdout.split()
        assert told == ["lo", "CapEff:", "0000000000000000"]
        assert (await sandbox.exec("ls -A | wc -l")).stdout.strip() == "0"
        assert str(sandbox.working_dir) == "/workspace"


async def test_what_commands_get_is_on_no_command_line_of_the_host(recipe: SshBackend) -> None:
    secret = replace(recipe, secrets={"TOKEN": "canary-of-ssh-1"}, env_vars={"A": "canary-of-ssh"})
    async with secret.sandbox() as sandbox:
        told = await sandbox.exec("echo $TOKEN $A; cat /proc/[0-9]*/cmdline", timeout=60)
        first, rest = told.stdout.split("\n", 1)
        assert first == "canary-of-ssh-1 canary-of-ssh"
        assert "canary-of-ssh" not in rest
        record = await asyncio.to_thread(Path(f"{PLACE}{sandbox.id}{LOCK}").read_text)
        assert "canary" not in record


async def test_commands_have_a_terminal(fenced: SshBackend) -> None:
    async with fenced.sandbox() as sandbox:
        process = await sandbox.start(["stty", "size"], pty=Pty(rows=30, cols=100))
        assert (await process.wait()).stdout.strip() == "30 100"


@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
async def test_what_a_killed_maker_leaves_goes_by_itself(
    recipe: SshBackend, isolation: str
) -> None:
    arguments = (str(recipe.config), isolation, recipe.labels["test"])
    maker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAKER, *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert maker.stdout is not None
    assert (await maker.stdout.readline()).strip()
    await _until(lambda: len(processes_with("987001")) >= 2)
    maker.send_signal(signal.SIGKILL)
    await maker.wait()
    await _until(lambda: not (processes_with("987001") or _left(recipe)))


async def test_what_a_killed_keeper_leaves_is_collected_and_nothing_else(
    recipe: SshBackend,
) -> None:
    async with recipe.sandbox() as other:
        async with recipe.sandbox() as sandbox:
            running = asyncio.create_task(sandbox.exec("setsid sleep 987002 & sleep 987002"))
            await _until(lambda: len(processes_with("987002")) >= 2)
            record = await asyncio.to_thread(Path(f"{PLACE}{sandbox.id}{LOCK}").read_text)
            os.kill(json.loads(record)["pid"], signal.SIGKILL)
            with pytest.raises(SandboxLost):
                await running
        await _until(lambda: not processes_with("987002"))
        owners = {info.id: info.owner for info in await recipe.list(recipe.labels)}
        assert owners == {sandbox.id: "gone", other.id: "alive"}
        assert sandbox.id in await recipe.gc()
        assert (await other.exec("echo on")).stdout == "on\n"
    assert _left(recipe) == []


async def test_a_sandbox_is_deleted_by_id_and_its_owner_hears_of_it(recipe: SshBackend) -> None:
    async with recipe.sandbox() as sandbox:
        assert await recipe.delete("nothing") is False
        assert await recipe.delete(sandbox.id) is True
        with pytest.raises(SandboxLost, match="from outside"):
            await sandbox.exec("sleep 60")
        assert await recipe.delete(sandbox.id) is False
    assert _left(recipe) == []


async def test_records_that_a_command_wrote_are_not_believed(recipe: SshBackend) -> None:
    for name, text in (("forged-1", "[]"), ("forged-2", '{"pid": -1}'), ("forged-3", "\0")):
        await asyncio.to_thread(Path(f"{PLACE}{name}{LOCK}").write_text, text)
    assert not [info for info in await recipe.list() if info.id.startswith("forged")]
    assert {"forged-1", "forged-2", "forged-3"} <= {*await recipe.gc()}


async def test_a_working_directory_of_the_host_is_used_in_place(
    recipe: SshBackend, tmp_path: Path
) -> None:
    place = tmp_path / "given"
    async with replace(recipe, working_dir=str(place)).sandbox() as sandbox:
        await sandbox.fs.write_text("kept.txt", "kept")
    assert (place / "kept.txt").read_text() == "kept"


async def test_a_fenced_sandbox_works_in_a_directory_of_the_host_as_its_owner(
    fenced: SshBackend, tmp_path: Path
) -> None:
    given = replace(fenced, working_dir=str(tmp_path / "given"))
    if os.getuid() == 0:
        with pytest.raises(IsolationUnavailable, match="is root's"):
            await given.create()
        make_passable(tmp_path)
        os.chown(tmp_path / "given", 65534, 65534)
    async with given.sandbox() as sandbox:
        await sandbox.fs.write_text("kept.txt", "kept")
    assert (tmp_path / "given" / "kept.txt").read_text() == "kept"


async def test_without_a_host_or_without_ssh_there_are_no_sandboxes(
    recipe: SshBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PADDOCK_SSH_HOST", raising=False)
    with pytest.raises(Unsupported, match="PADDOCK_SSH_HOST"):
        await SshBackend().list()
    monkeypatch.setenv("PATH", "/nowhere")
    for asking in (recipe.create(), recipe.list()):
        with pytest.raises(Unsupported, match="ssh is not installed"):
            await asking


def test_the_command_line_makes_them(paddock: Paddock, ssh_config: Path) -> None:
    variables = {"PADDOCK_SSH_HOST": "there", "PADDOCK_SSH_CONFIG": str(ssh_config)}
    done = paddock("exec", "--backend", "ssh", "--", "pwd", env=variables)
    assert (done.returncode, done.stdout) == (0, "/workspace\n"), done.stderr
    done = paddock("exec", "--backend", "ssh", "--", "pwd")
    assert done.returncode == 1
    assert "PADDOCK_SSH_HOST" in done.stderr


async def test_a_guest_that_hears_nothing_of_us_ends_with_its_lease(
    recipe: SshBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "LEASE", 4.0)
    monkeypatch.setattr(ssh.SshSandbox, "heartbeat_interval", 0.5)
    async with recipe.sandbox() as sandbox:
        os.kill(sandbox._process.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
        try:
            await _until(lambda: not _left(recipe))
        finally:
            os.kill(sandbox._process.pid, signal.SIGCONT)  # type: ignore[attr-defined]
        with pytest.raises(SandboxLost):
            await sandbox.exec("true")


async def test_an_answer_that_is_none_is_an_error(
    recipe: SshBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nonsense(*words: str) -> str:
        return "Welcome\nto this host\n"

    monkeypatch.setattr(ssh, "call", nonsense)
    with pytest.raises(SandboxError, match="to this host"):
        await recipe.list()
