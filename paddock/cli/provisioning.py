"""What a person sees while a sandbox is made: a status on a terminal, else a line a step.

A pipe or a file on stdout gets none of it. The text comes from sandboxes and registries, and goes
through `paddock.cli.text`. Knows backends by what they tell, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress as Display
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from paddock.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from paddock.backends.base import Backend, Progress, ProgressCallback
    from paddock.sandbox import Sandbox

__all__ = ["is_watched", "provisioned", "provisioning"]

SLOW = 2.0
"""Seconds that a sandbox may take without a word on `create` and `ready`: containers on a
busy machine take one."""
PACE = 10.0
"""Seconds between two lines about an image or an upload, which tell hundreds of things.
Services that run tests end what is silent for minutes."""
LINE = 200
"""Characters of a line; a terminal's is as long as the terminal is wide."""

_TITLES = {
    "create": "making the sandbox",
    "image": "image",
    "upload": "uploading",
    "setup": "setup",
    "ready": "the sandbox is ready",
}


@contextlib.contextmanager
def provisioning(beside: Console | None = None) -> Iterator[ProgressCallback]:
    """Show on stderr the progress that the callback gets, as long as the block lasts.

    The callback may be told of one sandbox after the other, on the event loop. `beside`
    is a console that is written to meanwhile: where it is a terminal too, both share it,
    so that a line of output and the status do not meet on one line.
    """
    console = Console(stderr=True, highlight=False)
    shown: _Status | _Lines
    if not is_watched(console):
        shown = _Lines(console)
    else:
        shown = _Status(beside if beside is not None and is_watched(beside) else console)
    try:
        yield shown
    finally:
        shown.end()


@contextlib.asynccontextmanager
async def provisioned(recipe: Backend) -> AsyncIterator[Sandbox]:
    """Make a sandbox, show that it is made, and take it down at the end of the block."""
    async with contextlib.AsyncExitStack() as stack:
        with provisioning() as tell:
            sandbox = await stack.enter_async_context(recipe.sandbox(on_progress=tell))
        yield sandbox


def is_watched(console: Console) -> bool:
    """Whether it is a terminal that a status can be redrawn on. FORCE_COLOR, which makes a
    terminal of a file for rich, means colours only."""
    return console.file.isatty() and console.is_interactive


def described(progress: Progress) -> str:
    """The step, its detail and how much of it is done, in characters that print."""
    if progress.warning:
        return one_line(progress.detail, LINE)
    title = _TITLES[progress.step]
    if progress.done is not None:
        of = "" if progress.total is None else f" of {decimal(progress.total)}"
        title = f"{title}, {decimal(progress.done)}{of}"
    return one_line(f"{title}: {progress.detail}" if progress.detail else title, LINE)


class _Status:
    """One line with the step that is under way and the seconds since the first; gone at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._display: Display | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.step in ("create", "ready"):
            self.end()  # or the one before, whose last step failed
        if progress.step == "ready":
            return
        if progress.warning:
            self._console.print(f"paddock: {described(progress)}", markup=False, soft_wrap=True)
            return
        if self._display is None:
            self._display = self._begin(described(progress))
            return
        # Not drawn at once: images tell more than can be read.
        self._display.update(self._display.task_ids[0], description=described(progress))

    def _begin(self, text: str) -> Display:
        rest_of_line = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        display = Display(
            SpinnerColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=rest_of_line),
            console=self._console,
            transient=True,
            expand=True,
            # stdout may be a pipe to another program: what is printed to it goes there.
            redirect_stdout=False,
        )
        display.add_task(text, total=None)
        display.start()
        return display

    def end(self) -> None:
        """Erase it. It comes again with the next step."""
        if self._display is not None:
            self._display.stop()
            self._display = None


class _Lines:
    """A line for each step. The first and the last are shown for slow sandboxes only."""

    def __init__(self, console: Console) -> None:
        self._file = console.file
        self._began = 0.0
        self._next = 0.0
        self._late: asyncio.TimerHandle | None = None

    def __call__(self, progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.end()
        match progress.step:
            case "create":
                self._began, self._next = now, 0.0
                self._late = loop.call_later(SLOW, self._say, described(progress))
            case "ready":
                if now - self._began >= SLOW:
                    self._say(f"{described(progress)} after {now - self._began:.1f} s")
            case _:
                # Images and uploads report progress faster than anyone can read.
                many = progress.step == "image" or progress.done is not None
                if not many or progress.milestone or now >= self._next:
                    self._next = now + PACE
                    self._say(described(progress))

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed stderr is no reason to fail
            self._file.write(f"paddock: {text}\n")
            self._file.flush()

    def end(self) -> None:
        """Say nothing that was not due yet."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
