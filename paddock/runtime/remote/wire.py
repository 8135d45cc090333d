"""What the server reads and writes for each kind of peer. Knows no socket.

Programs of many years speak this wire. Which one a client is, its first request tells by the keys
that it has: see `Peer`. Whatever has the right fields is read; each client gets only what it
understands.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydantic

from paddock.runtime.core.jsontext import problems_in, read_json
from paddock.runtime.remote.messages import (
    LEAST_FRAME,
    AckMessage,
    ArtifactUploadFailedMessage,
    ArtifactUploadResponseMessageInterface,
    AttachMessage,
    CancelMessage,
    CommandExecutionMessage,
    EndSessionMessage,
    InvocationMessage,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_FRAME_IN",
    "MAX_FRAME_OURS",
    "MAX_QUEUE",
    "OURS",
    "BadFrame",
    "Closing",
    "Incoming",
    "Peer",
    "UnknownMessage",
    "encode",
    "read",
    "read_object",
]

MAX_FRAME_IN = 16 * 1024 * 1024
"""Bytes of a frame to the server: a prompt with a repository in it has a few million."""
MAX_FRAME_OURS = 64 * 1024 * 1024
"""Bytes of a frame to a client that negotiated, at most."""
MAX_QUEUE = 2
"""Frames that have arrived on a connection and are not read yet: each may be of full size."""
OURS = "Paddock-Runtime"
"""The header by which a server says, before anything is sent, that a client can come back."""
NUMBERING = 256
"""Bytes that a frame's number and the id of its run take."""
MAX_PROBLEMS = 5
"""Of one frame that are named; the first ones are what matters."""

Incoming = (
    InvocationMessage
    | CommandExecutionMessage
    | ArtifactUploadResponseMessageInterface
    | ArtifactUploadFailedMessage
    | CancelMessage
    | EndSessionMessage
    | AckMessage
    | AttachMessage
)

_INCOMING: Mapping[str, type[Incoming]] = {
    "invocation_message": InvocationMessage,
    "command_execution_message": CommandExecutionMessage,
    "artifact_upload_response_message": ArtifactUploadResponseMessageInterface,
    "artifact_upload_failed_message": ArtifactUploadFailedMessage,
    "cancel_message": CancelMessage,
    "end_session_message": EndSessionMessage,
    "ack_message": AckMessage,
    "attach_message": AttachMessage,
}


class BadFrame(ValueError):
    """A frame is not a message; says which field is wrong. Has no value of the frame in it."""


class UnknownMessage(BadFrame):
    """A frame has a `message_type` that is not known."""


def read(frame: str | bytes) -> tuple[Incoming, dict[str, Any]]:
    """Return the message in `frame`, and the object that it was. Raise `BadFrame`."""
    found = read_object(frame)
    kind = found.get("message_type")
    if not isinstance(kind, str):
        raise BadFrame("message_type: give a text")
    model = _INCOMING.get(kind)
    if model is None:
        raise UnknownMessage(f"message_type: {kind[:100]!r} is not known")
    try:
        return model.model_validate(found), found
    except pydantic.ValidationError as error:
        raise BadFrame(f"{kind}: {_problems(error)}") from None


def read_object(frame: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a frame, text or binary. Raise `BadFrame`."""
    try:
        found = read_json(frame)
        if "\\u" in (frame if isinstance(frame, str) else frame.decode()):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeError:
        raise BadFrame("the frame is not valid Unicode") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BadFrame(f"the frame is not JSON: {error.msg} at {place}") from None
    except (ValueError, RecursionError):
        raise BadFrame("the frame is not JSON that can be read") from None
    if not isinstance(found, dict):
        raise BadFrame("the frame is not a JSON object")
    return found


def _problems(error: pydantic.ValidationError) -> str:
    found = problems_in(error)
    more = f" and {len(found) - MAX_PROBLEMS} more" if len(found) > MAX_PROBLEMS else ""
    return "; ".join(found[:MAX_PROBLEMS]) + more


class Closing(enum.Enum):
    """When the server closes a connection by itself."""

    AT_ONCE = "after the terminal message"
    AFTER_LINGER = "when nothing came for a while after it"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a client understands.

    - `closing`: clients whose call ends when the socket closes hang if it stays open.
    - `old_result`: it takes results from the top of a frame, `structured_output`.
    - `negotiated`: it is ours, and takes what others do not know.
    - `max_frame`: bytes of a frame that it takes.
    """

    closing: Closing = Closing.NEVER
    old_result: bool = False
    negotiated: bool = False
    max_frame: int = LEAST_FRAME

    @classmethod
    def of(
        cls, message: InvocationMessage | CommandExecutionMessage, keys: Mapping[str, Any]
    ) -> Peer:
        """Recognise a client by its first request, and by the `keys` that this had."""
        if message.paddock is not None:
            most = min(message.paddock.max_frame, MAX_FRAME_OURS)
            return cls(negotiated=True, max_frame=most)
        if isinstance(message, CommandExecutionMessage):
            is_new = "artifacts_dirs" in keys or "artifacts_dir" not in keys
            return cls(closing=Closing.NEVER if is_new else Closing.AFTER_LINGER)
        if "preferred_model" in keys or "agent_env" not in keys:
            return cls(closing=Closing.AT_ONCE, old_result=True)
        if "artifacts_dir" in keys and "artifacts_dirs" not in keys:
            return cls(closing=Closing.AFTER_LINGER)
        return cls()

    def result(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the frame of a result: `data` as the wire has it."""
        frame = {"message_type": "result_message", "metadata": dict(metadata), "data": dict(data)}
        if data["type"] == "structured_output":
            frame["structured_output"] = data["structured_output"]
        elif self.old_result:
            frame["structured_output"] = {"text": data["text"]}
        return frame

    def takes(self, text: str) -> bool:
        """Whether a frame is small enough."""
        most = self.max_frame - NUMBERING if self.negotiated else self.max_frame
        return len(text) * 4 <= most or len(text.encode()) <= most


def encode(frame: Mapping[str, Any]) -> str:
    """Return the text of a frame. Raise `ValueError` or `TypeError` for what JSON has not."""
    text = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character pair
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text
