"""What puts an answer together from events, whichever protocol they are of. Does no I/O."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic_core

from paddock.runtime.models._failure import BrokenStream

if TYPE_CHECKING:
    from paddock.runtime.core.model import ModelResponse, Usage

__all__ = ["Builder", "new_call_id"]


class Builder(ABC):
    """Takes the events of one stream in order, or a whole body; see `add` and `response`."""

    expected: ClassVar[str]
    """What an event is called in errors."""
    starts: ClassVar[bytes] = b"{"
    """How an event may start. What starts otherwise, such as a keep-alive, is ignored."""

    def __init__(self) -> None:
        self.done = False
        """Whether the service has said that nothing more comes."""
        self.begun = False
        """Whether anything of the answer has come."""
        self._thought = ""

    @property
    @abstractmethod
    def counted(self) -> Usage:
        """What the service has counted so far."""

    def add(self, data: bytes) -> str:
        """Take one event, or a whole body; return the text in it.

        Raises `Failure` for an error that the service reports, and `BrokenStream` for what is
        not an event.
        """
        data = data.strip()
        if data == b"[DONE]":
            self.done = True
        if data == b"[DONE]" or not data or data[0] not in self.starts:
            return ""
        try:
            return self._add(decode_json(data))
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            shown = data[:200].decode(errors="replace")
            raise BrokenStream(f"not {self.expected}: {shown}") from error

    @property
    def has_thought(self) -> bool:
        """Whether there is something to `take_thought`."""
        return bool(self._thought)

    def take_thought(self) -> str:
        """Return what the model has thought since this was called before."""
        thought, self._thought = self._thought, ""
        return thought

    def _think(self, piece: object) -> None:
        """Note what the model thinks, where `piece` has some of it."""
        if isinstance(piece, str):
            self._thought += piece

    @abstractmethod
    def response(self) -> ModelResponse:
        """Return the whole answer. Raises `BrokenStream` if the service has not finished it."""

    @abstractmethod
    def _add(self, event: Any) -> str: ...


def decode_json(data: bytes) -> Any:
    """As `json.loads`, which is slower, and is asked what the other one cannot decode."""
    try:
        return pydantic_core.from_json(data, cache_strings="keys")
    except ValueError:
        return json.loads(data)


def new_call_id() -> str:
    """Return an id for a call that the service gave none."""
    return f"call_{uuid.uuid4().hex}"
