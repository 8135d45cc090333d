"""One question to a guest and its one answer, and how answers and errors are read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.connection import ProtocolViolation
from paddock.backends.guest.inside import wire
from paddock.backends.users import unknown_user
from paddock.errors import (
    CommandLost,
    FenceUnavailable,
    FileChanged,
    SandboxClosed,
    SandboxError,
    SandboxLost,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.backends.guest.channels import Channels

__all__ = ["Request", "error_in"]

REPEATABLE = frozenset(("ping", "read", "stat"))
"""Requests that change nothing, so that they are made again over another stream."""
ERRORS: dict[str, Callable[[str], Exception]] = {
    "FenceUnavailable": FenceUnavailable,
    "FileChanged": FileChanged,
    "ValueError": ValueError,
    "Killed": SandboxError,
    "Unknown": CommandLost,
    "UnknownUser": unknown_user,
}
"""The guest's exceptions that have no errno, and what they are on this side."""
ERRNO_MAX = 4095
"""The largest that Linux has."""


class Request:
    """One request. Stays in the table until it is answered, even if its caller has left."""

    def __init__(self, channels: Channels, operation: str, payload: bytes, most: int) -> None:
        self._channels = channels
        self._operation = operation
        self._payload = payload
        self._most = most
        self._answer: asyncio.Future[tuple[dict[str, Any], bytes]] = (
            asyncio.get_running_loop().create_future()
        )
        self._number = channels.open(self)

    async def answer(self, *, first: bool = False) -> tuple[dict[str, Any], bytes]:
        """Send it and return the answer: an object and raw bytes. Raises the guest's error,
        `SandboxLost`, `SandboxClosed`, and `CommandLost` if the stream broke meanwhile."""
        self._channels.send(wire.REQUEST, self._number, self._payload, first=first)
        return await self._answer

    @property
    def waiting(self) -> bool:
        return not self._answer.done()

    streaming = False

    def on_frame(self, kind: int, payload: bytes) -> None:
        if kind != wire.REPLY:
            raise ProtocolViolation(f"a frame of kind {kind} answers a request")
        body, blob = wire.parse_message(payload)
        if len(blob) > self._most:
            raise ProtocolViolation(f"{len(blob)} bytes answer a request for {self._most}")
        error = error_in(body)
        self._channels.close_channel(self._number)
        if self._answer.done():
            return
        if error is not None:
            self._answer.set_exception(error)
        else:
            self._answer.set_result((body, blob))

    def on_over(self, error: SandboxLost | SandboxClosed) -> None:
        self._fail(error)

    def on_break(self) -> bool:
        return False

    def on_reconnected(self, *, heard: bool) -> None:
        if not self._answer.done() and (not heard or self._operation in REPEATABLE):
            self._channels.send(wire.REQUEST, self._number, self._payload)
            return
        self._channels.close_channel(self._number)
        what = f"whether its {self._operation!r} took effect is not known"
        self._fail(CommandLost(f"the stream to the sandbox broke; {what}"))

    def _fail(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


def error_in(body: Mapping[str, Any]) -> Exception | None:
    """The exception that an answer describes, if it does. Raises `ProtocolViolation`."""
    if "error" not in body:
        return None
    described = body["error"]
    if not isinstance(described, dict):
        raise ProtocolViolation("an error that is not described")
    text = str(described.get("text", ""))
    if "errno" in described:
        number, path = described["errno"], described.get("path")
        if type(number) is not int or not 0 <= number <= ERRNO_MAX:
            raise ProtocolViolation("an errno that Linux does not have")
        return OSError(number, text, *([str(path)] if path is not None else []))
    kind = ERRORS.get(str(described.get("kind")))
    return kind(text) if kind else SandboxError(f"{described.get('kind')}: {text}")
