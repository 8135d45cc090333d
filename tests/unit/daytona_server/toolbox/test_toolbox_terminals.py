"""Terminals of the conformance server's toolbox talk as the daemon's do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from daytona import (  # noqa: TID253 - the SDK is what is served here
    DaytonaBadRequestError,
    DaytonaConflictError,
    DaytonaNotFoundError,
)
from daytona.common.pty import PtySize  # noqa: TID253

if TYPE_CHECKING:
    from pathlib import Path

    from daytona import AsyncSandbox
    from daytona.handle.async_pty_handle import AsyncPtyHandle

    from paddock.testing.daytona.toolbox import Toolbox
    from tests.unit.daytona_server.toolbox.conftest import Bell

DEADLINE = 60.0
"""Seconds for what takes milliseconds."""

Ended = Callable[[int], Awaitable[None]]


class Screen:
    """Collects what a terminal shows."""

    def __init__(self) -> None:
        self.text = ""
        self._more = asyncio.Event()

    def show(self, data: bytes) -> None:
        self.text += data.decode()
        self._more.set()

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while text not in self.text:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def screen() -> Screen:
    return Screen()


async def opened(
    sandbox: AsyncSandbox, screen: Screen, *, cwd: str | None = None
) -> AsyncPtyHandle:
    return await sandbox.process.create_pty_session(
        "one", screen.show, cwd=cwd, envs={"OWN": "yes"}, pty_size=PtySize(rows=30, cols=100)
    )


async def end(terminal: AsyncPtyHandle) -> tuple[int | None, str | None]:
    async with asyncio.timeout(DEADLINE):
        result = await terminal.wait()
    await terminal.disconnect()
    return result.exit_code, result.error


async def test_a_terminal_is_a_real_one_with_its_size_and_variables(
    sandbox: AsyncSandbox, screen: Screen
) -> None:
    terminal = await opened(sandbox, screen)
    await terminal.send_input('test -t 0 && stty size && echo "$OWN-$OF_THE_BOX"\n')
    await screen.shows("30 100")
    await screen.shows("yes-yes")
    await terminal.send_input("exit 5\n")
    assert await end(terminal) == (5, None)


async def test_a_terminal_starts_in_the_folder_asked_for(
    sandbox: AsyncSandbox, screen: Screen, home: Path
) -> None:
    (home / "folder").mkdir()
    terminal = await opened(sandbox, screen, cwd="folder")
    await terminal.send_input("pwd -P; exit\n")
    await screen.shows(f"{home}/folder")
    await end(terminal)


async def test_a_terminal_is_resized(sandbox: AsyncSandbox, screen: Screen) -> None:
    terminal = await opened(sandbox, screen)
    info = await terminal.resize(PtySize(rows=50, cols=120))
    assert (info.rows, info.cols, info.active) == (50, 120, True)
    await terminal.send_input("stty size\n")
    await screen.shows("50 120")
    await terminal.kill()
    await end(terminal)


async def test_a_killed_terminal_takes_all_below_it_and_tells_the_signal(
    sandbox: AsyncSandbox, screen: Screen, bell: Bell, ended: Ended
) -> None:
    terminal = await opened(sandbox, screen)
    await terminal.send_input("sh -c 'echo $$ > bell; sleep 60'\n")
    below = int(await bell.hear())
    await terminal.kill()
    assert await end(terminal) == (137, "signal 9")
    await ended(below)
    with pytest.raises(DaytonaNotFoundError):
        await sandbox.process.get_pty_session_info("one")


async def test_a_terminal_outlives_its_client_and_takes_another(
    sandbox: AsyncSandbox, screen: Screen, bell: Bell
) -> None:
    terminal = await opened(sandbox, screen)
    await terminal.send_input("VALUE=kept; echo set > bell\n")
    await bell.hear()
    await terminal.disconnect()
    assert [each.id for each in await sandbox.process.list_pty_sessions()] == ["one"]

    again = await sandbox.process.connect_pty_session("one", screen.show)
    await again.wait_for_connection()
    await again.send_input("echo still-$VALUE; exit\n")
    await screen.shows("still-kept")
    assert await end(again) == (0, None)


async def test_a_terminal_has_a_name_of_its_own(sandbox: AsyncSandbox, screen: Screen) -> None:
    terminal = await opened(sandbox, screen)
    with pytest.raises(DaytonaConflictError):
        await opened(sandbox, screen)
    await terminal.disconnect()


async def test_a_terminal_in_a_folder_that_is_missing_is_refused(
    sandbox: AsyncSandbox, screen: Screen
) -> None:
    with pytest.raises(DaytonaBadRequestError):
        await opened(sandbox, screen, cwd="/no/such/folder")
    assert await sandbox.process.list_pty_sessions() == []


async def test_stopping_the_toolbox_cuts_terminals_off(
    sandbox: AsyncSandbox, screen: Screen, toolbox: Toolbox
) -> None:
    terminal = await opened(sandbox, screen)
    await toolbox.stop()
    assert (await end(terminal))[0] is None
