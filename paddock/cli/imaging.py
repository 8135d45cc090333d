"""What a person sees of a pull, a build or an import: bars on a terminal, else a line a step."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, assert_never

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from paddock.cli.provisioning import is_watched
from paddock.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.backends.images import (
        ImageProgress,
        ImageProgressCallback,
        Output,
        Step,
        Transfer,
    )

__all__ = ["image_progress"]

WIDTH = 60
"""Characters of an instruction, or of the last line of output, beside a bar."""
LINE = 200


@contextlib.contextmanager
def image_progress() -> Iterator[ImageProgressCallback]:
    """Show progress on stderr, as long as the block lasts."""
    console = Console(stderr=True, highlight=False)
    if not is_watched(console):
        yield _Lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.fields[image]}"),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


class _Lines:
    """One line for each step, and none for what commands print: an error shows the last of it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: ImageProgress) -> None:
        from paddock.backends.images import Step

        if isinstance(event, Step):
            text = one_line(f"{event.image}: {_described(event)}", LINE)
            self._console.print(text, soft_wrap=True, markup=False)


class _Bars:
    """A bar for each image and each layer that is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: ImageProgress) -> None:
        from paddock.backends.images import Output, Step, Transfer

        match event:
            case Step():
                self._step(event)
            case Output():
                self._output(event)
            case Transfer():
                self._transfer(event)
            case _:
                assert_never(event)

    def _step(self, event: Step) -> None:
        self._progress.update(
            self._task(event.image, event.image),
            total=event.total,
            completed=event.number - 1,
            description=_shown(_described(event)),
        )

    def _output(self, event: Output) -> None:
        self._progress.update(
            self._task(event.image, event.image), description=f"[dim]{_shown(event.line)}"
        )

    def _transfer(self, event: Transfer) -> None:
        layer, _, _ = event.what.partition(" ")
        key = f"{event.image} {layer}"
        if event.done == event.total:
            if key in self._tasks:
                self._progress.remove_task(self._tasks.pop(key))
            return
        task = self._task(key, event.image)
        description = f"{_shown(event.what)} {event.done / 1e6:.1f} MB"
        self._progress.update(
            task, total=event.total, completed=event.done, description=description
        )

    def _task(self, key: str, image: str) -> TaskID:
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task("", total=None, image=_shown(image))
        return self._tasks[key]


def _described(step: Step) -> str:
    place = f"{step.number}/{step.total}" if step.total else str(step.number)
    return f"{place} {step.instruction}"


def _shown(text: str) -> str:
    return escape(one_line(text, WIDTH))
