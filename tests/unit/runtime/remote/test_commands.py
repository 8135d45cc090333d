"""Commands of requests: their processes, their output, their exit codes."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, Talker, command_request, invocation

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.remote.server import RuntimeServer
    from tests.unit.runtime.remote.conftest import Serve


def left(mark: str) -> list[str]:
    """The processes that have `mark` in their command line."""
    found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
    return found.stdout.split()


async def until_gone(mark: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(left, mark):  # noqa: ASYNC110 - processes have no event
            await asyncio.sleep(0.01)


def tree(mark: str) -> str:
    """A command that starts processes in every way there is, each with `mark` as its name."""
    nap = f"exec -a {mark} sleep 1000"
    return (
        f"bash -c '{nap}' & setsid bash -c '{nap}' & (setsid bash -c '{nap}' &) ; "
        f"bash -c '{nap}' & echo up; bash -c '{nap}'"
    )


@pytest.fixture
def mark() -> str:
    return f"paddock-{uuid.uuid4().hex[:12]}"


@pytest.mark.rows("U-20", "N-5")
async def test_what_the_agent_gave_is_kept_when_a_command_after_it_fails(serve: Serve) -> None:
    request = invocation("ECHO:kept?", post_agent_invocation_commands=[{"command": "exit 3"}])
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(request)
    assert ended["error"] == "post-agent command failed with exit code: 3"
    gave = {"type": "text", "text": "kept?", "metadata": {"model": "gpt-4.1"}}
    assert ended["metadata"]["result"] == gave


@pytest.mark.rows("U-20")
async def test_an_agent_does_not_run_after_a_command_that_failed(serve: Serve) -> None:
    lab = Lab()
    commands = [{"command": "exit 7"}, {"command": "echo second"}]
    request = invocation("ECHO:x", pre_agent_invocation_commands=commands)
    async with serve(lab) as server, Talker(server.url) as talker:
        ended = await talker.ask(request)
    assert ended["error"] == "pre-agent command failed with exit code: 7"
    assert not lab.started.is_set()
    assert not talker.output()


@pytest.mark.rows("U-22", "N-18")
async def test_a_result_says_how_each_command_ended(serve: Serve) -> None:
    commands = ("echo one", "true", "echo bad; echo why >&2; exit 4", "echo never")
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(command_request(*commands))
        found = [(item["exit_code"], item["stdout"], item["stderr"]) for item in ended["results"]]
        assert found == [(0, "one\n", ""), (0, "", ""), (4, "bad\n", "why\n")]
        killed = await talker.ask(command_request("echo before; kill -9 $$", "echo next"))
        assert [(each["exit_code"], each["stdout"]) for each in killed["results"]] == [
            (137, "before\n")
        ]


@pytest.mark.rows("U-22", "N-18")
async def test_much_output_kills_nothing_and_is_kept_in_a_file(
    serve: Serve, tmp_path: Path
) -> None:
    command = "head -c 1500000 /dev/zero | tr '\\0' a; echo; echo done > done.txt; echo end"
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(command_request(command))
        (item,) = ended["results"]
        assert item["exit_code"] == 0
        assert item["stdout_truncated"] is True
        assert item["stdout"].endswith("end\n")
        assert "bytes left out" in item["stdout"] or "characters left out" in item["stdout"]
        assert item["stdout_bytes"] == 1_500_005
        with open(item["stdout_file"]) as file:  # noqa: ASYNC230
            assert len(file.read()) == 1_500_005
        assert len(talker.output()) == 1_500_005
        sizes = [len(each["text"].encode()) for each in talker.of("command_output_message")]
        assert max(sizes) <= 64 * 1024
    assert (tmp_path / "work" / "done.txt").read_text() == "done\n"


@pytest.mark.rows("U-22")
async def test_a_command_has_the_servers_environment_and_its_own(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OF_SERVER", "server")
    monkeypatch.setenv("PADDOCK_TOKEN", "not-for-commands")
    shown = 'echo "$OF_SERVER $OF_AGENT $OWN $PADDOCK_TOKEN"; pwd'
    commands = [{"command": shown, "env": {"OWN": "own"}, "cwd": "made/below"}]
    request = invocation(
        "ECHO:x", agent_env={"OF_AGENT": "agent"}, pre_agent_invocation_commands=commands
    )
    async with serve() as server, Talker(server.url) as talker:
        await talker.ask(request)
    assert talker.output() == f"server  own \n{tmp_path}/work/made/below\n"


@pytest.mark.rows("U-22")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ({"command": "echo x", "cwd": "a-file"}, "cwd a-file"),
        ({"command": "echo x", "env": {"A=B": "c"}}, "A=B"),
        ({"command": "echo \0"}, "NUL"),
    ],
)
async def test_a_command_that_cannot_be_run_is_an_error(
    command: dict[str, Any], told: str, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "work" / "a-file").touch()
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(command_request(command))
        assert told in ended["error"]
        assert (await talker.ask(command_request("echo on")))["results"][0]["stdout"] == "on\n"


@pytest.mark.rows("U-22", "N-11")
async def test_a_child_in_the_background_does_not_hold_a_command(serve: Serve, mark: str) -> None:
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(
            command_request(f"bash -c 'exec -a {mark} sleep 1000' & echo started")
        )
        assert ended["results"][0]["stdout"] == "started\n"
        assert await asyncio.to_thread(left, mark)
    await until_gone(mark)


async def cancelled(_: RuntimeServer, talker: Talker) -> None:
    await talker.ask({"message_type": "cancel_message"})


async def dropped(_: RuntimeServer, talker: Talker) -> None:
    talker.socket.transport.abort()


async def stopped(server: RuntimeServer, _: Talker) -> None:
    await server.aclose()


@pytest.mark.rows("U-22", "N-10")
@pytest.mark.parametrize("end", [cancelled, dropped, stopped])
async def test_nothing_is_left_of_a_command_that_is_ended(
    end: Any, serve: Serve, mark: str
) -> None:
    async with serve(settings=ServerSettings(grace=0.1)) as server:
        async with Talker(server.url) as talker:
            await talker.send(command_request(tree(mark)))
            await talker.until(lambda: "up" in talker.output())
            async with asyncio.timeout(PATIENCE):
                while len(await asyncio.to_thread(left, mark)) < 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await end(server, talker)
        await until_gone(mark)


@pytest.mark.rows("U-22")
async def test_bytes_that_are_no_text_are_replaced_and_characters_are_not_split(
    serve: Serve,
) -> None:
    command = r"printf '\303'; sleep 0.1; printf '\251 \377\n'"
    async with serve() as server, Talker(server.url) as talker:
        ended = await talker.ask(command_request(command))
    assert ended["results"][0]["stdout"] == "é �\n"
    assert talker.output() == "é �\n"
