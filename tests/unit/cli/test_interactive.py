"""A conversation by lines, without a terminal: what goes on, what is cancelled, what is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from paddock.cli import slash
from paddock.cli.conversation import Approver
from paddock.cli.lines import open_reader
from paddock.cli.repl import Repl
from paddock.errors import ConfigError
from paddock.redaction import Redactor
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("S-63")

PATIENCE = 60.0


class Lines:
    """A reader that gives these lines."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    async def read(self) -> str:
        if not self._lines:
            raise EOFError
        return self._lines.pop(0)


async def test_lines_are_dealt_with_in_their_order_until_one_leaves() -> None:
    heard = []

    async def handle(line: str) -> None:
        heard.append(line)

    await Repl(Lines(" one ", "", "  ", "two", "exit", "three"), handle).run()
    assert heard == ["one", "two"]


async def test_a_stdin_that_is_closed_has_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(EOFError):
        await open_reader("> ", history="history").read()


async def test_an_error_is_told_without_secrets_and_the_next_line_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard = []

    async def handle(line: str) -> None:
        heard.append(line)
        if line == "one":
            raise ConfigError("no \x1b[2J tk-secret-enough")

    redactor = Redactor({"TOKEN": "tk-secret-enough"})
    repl = Repl(Lines("one", "two"), handle, redactor=lambda: redactor)
    await repl.run()
    assert repl.failed
    assert heard == ["one", "two"]
    assert capsys.readouterr().err == "paddock: no \\x1b[2J [secret TOKEN]\n"


async def test_a_defect_is_not_swallowed() -> None:
    async def handle(_line: str) -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError, match="a defect"):
        await Repl(Lines("one", "two"), handle).run()


async def test_an_interrupt_cancels_what_goes_on_once_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = asyncio.Event()
    stubborn = asyncio.Event()
    heard = []

    async def handle(line: str) -> None:
        if line == "two":
            heard.append(line)
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await stubborn.wait()

    repl = Repl(Lines("one", "two"), handle)
    assert not repl.interrupt()
    async with asyncio.timeout(PATIENCE):
        running = asyncio.create_task(repl.run())
        await begun.wait()
        assert repl.interrupt()
        assert not repl.interrupt()  # the second one is for who leaves
        stubborn.set()
        await running
    assert heard == ["two"]
    assert "paddock: cancelled\n" in capsys.readouterr().err


async def test_leaving_in_the_middle_waits_for_the_clean_up() -> None:
    begun = asyncio.Event()
    cleaned = []

    async def handle(_line: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async with asyncio.timeout(PATIENCE):
        running = asyncio.create_task(Repl(Lines("one", "two"), handle).run())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert cleaned == [True]


async def test_who_wants_no_questions_is_asked_none() -> None:
    async def never(_question: str) -> str:
        raise AssertionError("it asked")

    approver = Approver(never)
    approver.approves_all = True
    assert await approver("bash", {"command": "rm -rf data"})
    assert not approver.was_alone


def test_writing_is_allowed_and_forbidden_as_a_whole() -> None:
    agent = slash.with_writing(Agent(AgentConfig(profile="readonly")), True)
    assert slash.describe_writing(agent) == "writing files: full; shell: unrestricted"
    assert "write" in agent.registry
    assert "writing files full" in agent.system_prompt
    agent = slash.with_writing(agent, False)
    assert slash.describe_writing(agent) == "writing files: off; shell: restricted, fence: landlock"
    assert "write" not in agent.registry


def test_a_download_names_both_places_and_writes_over_nothing(tmp_path: Path) -> None:
    target = tmp_path / "b c"
    assert slash.parse_download(f"a.txt '{target}'") == slash.Download(remote="a.txt", local=target)
    options = "--links skip --ignore '*.log' --gitignore --ignore b"
    assert slash.parse_download(f"{options} a.txt '{target}'") == slash.Download(
        remote="a.txt", local=target, ignore=("*.log", "b"), gitignore=True, links="skip"
    )
    for text in ("", "a", "a b c", "a 'b", "--ignore", "--ignore x y", "--links", "--x a b"):
        with pytest.raises(ConfigError, match=r"say /download .*REMOTE LOCAL"):
            slash.parse_download(text)
    target.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        slash.parse_download(f"a.txt '{target}'")
