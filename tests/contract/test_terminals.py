"""Tests of the kit for terminals, and programs that need one, typed at and looked at."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from paddock import Pty
from paddock.errors import ConfigError
from paddock.testing.conformance import TerminalTests
from tests.contract.ours import Ours
from tests.screens import terminal

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


class TestTerminal(Ours, TerminalTests):
    pass


async def test_what_is_typed_is_shown_and_edited_by_the_terminal(sandbox: Sandbox) -> None:
    async with terminal(sandbox, 'echo ready; read line; echo "got $line"') as tty:
        await tty.until("ready")
        await tty.type("wrong\x7f\x7f\x7f\x7f\x7fright\r")
        await tty.until("got right")
    assert tty.lines[1] == "right"


async def test_a_pythons_prompt_is_used_line_by_line(sandbox: Sandbox) -> None:
    async with terminal(sandbox, ["python3", "-q", "-i", "-S", "-E"]) as tty:
        await tty.until(">>> ")
        await tty.type("def double(x):\r    return 2 * x\r\r")
        await tty.until(lambda text: text.count(">>> ") == 2)
        await tty.type("double(21)\r")
        await tty.until("\n42")
        await tty.type("import time; print('o' 'n'); time.sleep(1000)\r")
        await tty.until("\non")
        await tty.type("\x03")
        await tty.until("KeyboardInterrupt")
        await tty.type("print(6 * 7, 'again')\r")
        await tty.until("42 again")
        await tty.process.send_eof()
        await tty.process.wait()


async def test_a_program_that_draws_the_screen_is_driven_by_keys(sandbox: Sandbox) -> None:
    async with terminal(sandbox, ["top", "-d", "600"], Pty(rows=30, cols=90)) as tty:
        await tty.until("PID")
        assert tty.lines[0].startswith("top - ")
        await tty.type("h")
        await tty.until("Help for Interactive Commands")
        await tty.type("q")
        await tty.until(lambda text: "Help for" not in text)
        await tty.type("q")
        assert (await tty.process.wait()).ok


async def test_a_program_that_is_missing_says_so_on_the_terminal(sandbox: Sandbox) -> None:
    async with terminal(sandbox, ["nosuchprogram"]) as tty:
        result = await tty.process.wait()
    assert result.exit_code == 127
    assert "nosuchprogram" in result.stdout


async def test_a_command_without_a_terminal_has_no_size(sandbox: Sandbox) -> None:
    async with await sandbox.start("cat") as process:
        with pytest.raises(ConfigError, match=r"start it with pty=Pty\(\)"):
            await process.resize(40, 120)
        with pytest.raises(ConfigError, match="rows=0: give a whole number, 1 to 65535"):
            await process.resize(0, 120)


async def test_a_signal_may_be_for_the_group_or_for_the_tree(sandbox: Sandbox) -> None:
    command = (
        "trap 'echo leader' USR1; "
        "(trap 'echo group; exit' USR1; echo ready; while :; do sleep 0.05; done) & "
        "setsid sh -c \"trap 'echo far; exit' USR1; echo on; while :; do sleep 0.05; done\" & "
        "while read x; do :; done; wait"
    )
    async with await sandbox.start(command) as process:
        said = ""

        async def until(*words: str) -> None:
            nonlocal said
            async for _, data in process.output():
                said += data.decode()
                if all(word in said for word in words):
                    return

        await until("ready", "on")
        await process.signal(signal.SIGUSR1, to="group")
        await until("group")
        assert "far" not in said
        await process.signal(signal.SIGUSR1, to="tree")
        await until("far")
        with pytest.raises(ConfigError, match="to='all': give"):
            await process.signal(signal.SIGUSR1, to="all")  # type: ignore[arg-type]


async def test_merged_output_is_in_the_order_in_which_it_was_written(sandbox: Sandbox) -> None:
    command = "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done; nosuchprogram"
    result = await sandbox.exec(command, merge_output=True)
    expected = "".join(f"out {n}\nerr {n}\n" for n in range(1, 6))
    assert result.stdout.startswith(expected)
    assert "nosuchprogram" in result.stdout.removeprefix(expected)
    assert (result.stderr, result.exit_code) == ("", 127)
    async with await sandbox.start(command, merge_output=True) as process:
        pieces = [piece async for piece in process.output()]
    assert {stream for stream, _ in pieces} == {"stdout"}
    assert b"".join(data for _, data in pieces).decode().startswith(expected)


async def test_merged_output_is_bounded_as_one_stream(sandbox: Sandbox) -> None:
    command = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"
    result = await sandbox.exec(command, merge_output=True, max_output=1000)
    assert (result.out.total, result.err.total) == (600_000, 0)
    assert len(bytes(result.out)) == 1000
