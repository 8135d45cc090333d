"""What is shown while a sandbox is made, on a terminal and elsewhere."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import typer
from rich.console import Console

from paddock.backends.base import Progress
from paddock.backends.local import LocalBackend
from paddock.cli import provisioning as module
from paddock.cli.provisioning import provisioning

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60.0
CREATE = Progress(step="create")
IMAGE = Progress(step="image", detail="paddock:python: step 1/3: FROM debian")
UPLOAD = Progress(step="upload", detail="src -> work")
SETUP = Progress(step="setup", detail="make all")
READY = Progress(step="ready")
WARNING = Progress(step="upload", detail="src: left out pipe (a named pipe)", warning=True)
EVIL = "\x1b[2J\x1b]0;title\x07 [bold]x[/] :fire: \u202e\nsecond\rline"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Told(io.StringIO):
    """A file that tells when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def screen(written: str) -> list[str]:
    """The lines that a terminal shows after `written`."""
    rows, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|.", written, re.DOTALL):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        elif token == "\x1b[2K":
            rows[row] = ""
        elif token == "\x1b[1A":
            row -= 1
        elif len(token) == 1:
            rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in rows if line.strip()]


@pytest.fixture(autouse=True)
def _ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


class Swap:
    """Puts files in the place of stdout and stderr. pytest does so too, after the fixtures,
    and therefore a test has to ask for it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def out(self) -> io.StringIO:
        self._patch.setattr(sys, "stdout", file := io.StringIO())
        return file

    def log(self) -> io.StringIO:
        """stderr, as a file."""
        self._patch.setattr(sys, "stderr", file := io.StringIO())
        return file

    def terminal(self) -> Terminal:
        """stderr, as a person looks at it."""
        self._patch.setattr(sys, "stderr", file := Terminal())
        return file


@pytest.fixture
def swap(monkeypatch: pytest.MonkeyPatch) -> Swap:
    return Swap(monkeypatch)


# On a terminal.


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (CREATE, "making the sandbox"),
        (IMAGE, "image: paddock:python: step 1/3: FROM debian"),
        (UPLOAD, "uploading: src -> work"),
        (replace(UPLOAD, done=1_500_000), "uploading, 1.5 MB: src -> work"),
        (replace(UPLOAD, done=500, total=2_000_000), "uploading, 500 bytes of 2.0 MB: src -> work"),
        (SETUP, "setup: make all"),
    ],
    ids=lambda value: getattr(value, "step", ""),
)
def test_a_terminal_shows_the_step_its_detail_and_the_time(
    step: Progress, text: str, swap: Swap
) -> None:
    terminal, out = swap.terminal(), swap.out()
    with provisioning() as tell:
        tell(step)
        (line,) = screen(terminal.getvalue())
    assert re.fullmatch(rf"\S 0:00:0\d {re.escape(text)}", line)
    assert out.getvalue() == ""


def test_the_line_goes_on_to_the_next_step_and_is_gone_when_ready(swap: Swap) -> None:
    terminal = swap.terminal()
    with provisioning() as tell:
        for step in (CREATE, UPLOAD, SETUP):
            tell(step)
        tell(READY)
        assert "setup: make all" in terminal.getvalue()
        assert screen(terminal.getvalue()) == []
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


def test_a_warning_stays_on_the_terminal(swap: Swap) -> None:
    terminal = swap.terminal()
    with provisioning() as tell:
        for step in (CREATE, UPLOAD, WARNING, SETUP, READY):
            tell(step)
        assert screen(terminal.getvalue()) == ["paddock: src: left out pipe (a named pipe)"]


def test_a_failure_leaves_the_terminal_clean(swap: Swap) -> None:
    terminal = swap.terminal()
    with pytest.raises(KeyboardInterrupt), provisioning() as tell:
        tell(CREATE)
        raise KeyboardInterrupt
    assert screen(terminal.getvalue()) == []
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")
    assert sys.stderr is terminal


def test_a_second_sandbox_after_one_that_failed_begins_anew(swap: Swap) -> None:
    terminal = swap.terminal()
    with provisioning() as tell:
        tell(CREATE)
        tell(SETUP)
        tell(CREATE)
        assert len(screen(terminal.getvalue())) == 1
        assert "making" in screen(terminal.getvalue())[0]
        tell(READY)
    assert screen(terminal.getvalue()) == []


def test_a_long_step_takes_one_line_and_does_not_hide_the_time(
    monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    terminal = swap.terminal()
    monkeypatch.setenv("COLUMNS", "30")
    with provisioning() as tell:
        tell(Progress(step="setup", detail="make " * 1000))
        (line,) = screen(terminal.getvalue())
    assert re.fullmatch(r"\S 0:00:0\d setup: make make ma…", line)


def test_nothing_in_a_detail_controls_the_terminal(swap: Swap) -> None:
    terminal = swap.terminal()
    with provisioning() as tell:
        tell(Progress(step="setup", detail=EVIL))
        (line,) = screen(terminal.getvalue())
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\u202e" not in terminal.getvalue()
    assert r"\x1b[2J\x1b]0;title\x07 [bold]x[/] :fire: \u202e second\rline" in line


def test_what_is_printed_meanwhile_goes_where_it_belongs(swap: Swap) -> None:
    terminal, out = swap.terminal(), swap.out()
    with provisioning() as tell:
        tell(CREATE)
        typer.echo("for a program")
        typer.echo("for a person", err=True)
    assert out.getvalue() == "for a program\n"
    assert screen(terminal.getvalue()) == ["for a person"]


def test_lines_of_output_on_the_same_terminal_stay_whole(
    monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    terminal = swap.terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    console = Console(highlight=False)
    with provisioning(beside=console) as tell:
        tell(CREATE)
        console.print("→ bash make")
        tell(SETUP)
        console.print("✓ read")
        tell(READY)
    assert screen(terminal.getvalue()) == ["→ bash make", "✓ read"]


def test_a_pipe_beside_a_terminal_gets_nothing(swap: Swap) -> None:
    terminal, out = swap.terminal(), swap.out()
    with provisioning(beside=Console()) as tell:
        tell(CREATE)
    assert out.getvalue() == ""
    assert "making" in terminal.getvalue()


# Elsewhere.


async def tell_all(*steps: Progress) -> None:
    with provisioning() as tell:
        for step in steps:
            tell(step)


async def test_a_file_gets_a_line_for_each_step_and_none_for_a_quick_beginning_and_end(
    swap: Swap,
) -> None:
    log, out = swap.log(), swap.out()
    await tell_all(CREATE, IMAGE, UPLOAD, SETUP, SETUP, READY)
    assert log.getvalue().splitlines() == [
        "paddock: image: paddock:python: step 1/3: FROM debian",
        "paddock: uploading: src -> work",
        "paddock: setup: make all",
        "paddock: setup: make all",
    ]
    assert out.getvalue() == ""


async def test_a_slow_sandbox_is_told_when_it_is_late_and_when_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", log := Told())
    monkeypatch.setattr(module, "SLOW", 0.0)
    with provisioning() as tell:
        tell(CREATE)
        await asyncio.wait_for(log.written.wait(), PATIENCE)
        assert log.getvalue() == "paddock: making the sandbox\n"
        tell(READY)
    last = log.getvalue().splitlines()[-1]
    assert re.fullmatch(r"paddock: the sandbox is ready after \d+\.\d s", last)


async def test_after_the_end_nothing_is_said_any_more(
    monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    log = swap.log()
    monkeypatch.setattr(module, "SLOW", 0.0)
    await tell_all(CREATE)
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.0, done.set)  # it would come before this
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert log.getvalue() == ""


async def test_of_an_image_a_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    log = swap.log()
    await tell_all(CREATE, *[IMAGE] * 500)
    assert log.getvalue().count("\n") == 1
    monkeypatch.setattr(module, "PACE", 0.0)
    await tell_all(CREATE, *[IMAGE] * 500)
    assert log.getvalue().count("\n") == 501


async def test_the_steps_of_a_build_are_told_to_a_file_whenever_they_come(swap: Swap) -> None:
    log = swap.log()
    line = Progress(step="image", detail="paddock:python: making")
    await tell_all(CREATE, line, line, replace(IMAGE, milestone=True), line)
    assert log.getvalue().splitlines() == [
        "paddock: image: paddock:python: making",
        "paddock: image: paddock:python: step 1/3: FROM debian",
    ]


async def test_of_an_upload_a_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    log = swap.log()
    sent = [replace(UPLOAD, done=done) for done in range(500)]
    await tell_all(CREATE, UPLOAD, *sent)
    assert log.getvalue() == "paddock: uploading: src -> work\n"
    monkeypatch.setattr(module, "PACE", 0.0)
    await tell_all(CREATE, UPLOAD, *sent)
    assert log.getvalue().endswith("\npaddock: uploading, 499 bytes: src -> work\n")


async def test_nothing_in_a_detail_breaks_a_line_of_a_file(swap: Swap) -> None:
    log = swap.log()
    await tell_all(Progress(step="setup", detail=EVIL))
    assert log.getvalue() == (
        r"paddock: setup: \x1b[2J\x1b]0;title\x07 [bold]x[/] :fire: \u202e second\rline" + "\n"
    )


@pytest.mark.parametrize(("name", "value"), [("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1")])
async def test_colours_that_are_forced_make_no_terminal_of_a_file(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    log = swap.log()
    monkeypatch.setenv(name, value)
    await tell_all(CREATE, UPLOAD, READY)
    assert log.getvalue() == "paddock: uploading: src -> work\n"


async def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    terminal = swap.terminal()
    monkeypatch.setenv("TERM", "dumb")
    await tell_all(CREATE, UPLOAD, READY)
    assert terminal.getvalue() == "paddock: uploading: src -> work\n"


@pytest.mark.parametrize("stderr", [None, Broken()], ids=["closed", "broken"])
async def test_a_stderr_that_nobody_reads_is_no_reason_to_fail(
    stderr: io.StringIO | None, monkeypatch: pytest.MonkeyPatch, swap: Swap
) -> None:
    out = swap.out()
    monkeypatch.setattr(sys, "stderr", stderr)
    await tell_all(CREATE, UPLOAD, SETUP, READY)
    assert out.getvalue() == ""


# What a session tells.


async def test_what_an_upload_left_out_is_a_warning(tmp_path: Path, swap: Swap) -> None:
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "x.log").touch()
    (tmp_path / "kept").touch()
    recipe = LocalBackend(
        isolation="none", uploads=[(str(tmp_path), ".")], upload_ignore=["*.log"],
        upload_links="skip",
    )  # fmt: skip
    file = swap.log()
    with provisioning() as tell:
        async with recipe.sandbox(on_progress=tell) as sandbox:
            assert (await sandbox.exec("ls -A")).stdout == "kept\n"
    assert f"paddock: {tmp_path}: left out link (a symbolic link)\n" in file.getvalue()
