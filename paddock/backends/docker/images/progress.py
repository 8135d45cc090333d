"""What is told of a pull, a build or an import while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ImageProgress", "ImageProgressCallback", "Output", "Step", "Transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """About to do `instruction`, the `number`th in making `image`, of `total` if that is known."""

    image: str
    number: int
    total: int | None
    instruction: str

    def __str__(self) -> str:
        of = "" if self.total is None else f"/{self.total}"
        return f"{self.image}: step {self.number}{of}: {self.instruction}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A line that something printed in making `image`: a command, or the engine."""

    image: str
    line: str

    def __str__(self) -> str:
        return f"{self.image}: {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Of `what` (a layer, a context), `done` bytes of `total` are there; None if not known."""

    image: str
    what: str
    done: int
    total: int | None = None

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        return f"{self.image}: {self.what}: {self.done}{of} bytes"


ImageProgress = Step | Output | Transfer
ImageProgressCallback = Callable[[ImageProgress], None]
"""Called on the event loop, so it has to be quick."""
