"""The frames of one run, numbered, for a client that may come back. Knows no socket."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock.runtime.remote.wire import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_KEPT", "FrameLog"]

MAX_KEPT = 16 * 1024 * 1024
"""Bytes of frames that are kept for one run: beyond it the oldest output of commands goes."""


@dataclass(frozen=True, slots=True)
class _Frame:
    text: str
    size: int
    is_droppable: bool


class FrameLog:
    """Frames in their order, from 1 on, until they are acknowledged.

    With `run_id` each frame carries it and its number, and so the first one that is sent after
    frames which were dropped says how many (`gap`).
    """

    def __init__(self, *, run_id: str | None, max_kept: int = MAX_KEPT) -> None:
        self._run_id = run_id
        self._max_kept = max_kept
        self._frames: OrderedDict[int, _Frame] = OrderedDict()
        self._size = 0
        self.last = 0
        """The number of the newest frame."""

    @property
    def size(self) -> int:
        """Bytes of what is kept, roughly."""
        return self._size

    def add(self, frame: Mapping[str, Any]) -> None:
        """Add a frame. Raise `ValueError` or `TypeError` for one that is not JSON."""
        number = self.last + 1
        if self._run_id is not None:
            frame = {**frame, "run_id": self._run_id, "seq": number}
            if number == 1:
                frame["paddock"] = {"v": 1}
        text = encode(frame)
        is_droppable = frame["message_type"] == "command_output_message"
        self.last = number
        self._frames[number] = _Frame(text, len(text), is_droppable)
        self._size += len(text)
        if self._size > self._max_kept:
            self._drop()

    def _drop(self) -> None:
        """Drop output of commands, the oldest first, until a quarter of the space is free."""
        for number in [n for n, frame in self._frames.items() if frame.is_droppable]:
            if self._size <= self._max_kept * 3 // 4:
                return
            self._remove(number)

    def _remove(self, number: int) -> None:
        self._size -= self._frames.pop(number).size

    def acknowledge(self, number: int) -> None:
        """Forget the frames up to `number`."""
        while self._frames and (first := next(iter(self._frames))) <= number:
            self._remove(first)

    def after(self, number: int) -> tuple[int, str] | None:
        """Return the first frame after `number` that is still there, and its number."""
        following = self._frames.get(number + 1)
        if following is not None:
            return number + 1, following.text
        found = next((each for each in self._frames if each > number), None)
        if found is None:
            return None
        text = self._frames[found].text
        if self._run_id is not None:
            text = f'{text[:-1]},"gap":{found - number - 1}}}'
        return found, text
