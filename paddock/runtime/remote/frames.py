"""What a run tells its client: without secrets, in what the client takes, one terminal message.

Knows no socket: frames go to a `FrameLog`, and the sender is notified.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.text import head_and_tail
from paddock.runtime.remote.failures import bounded
from paddock.runtime.remote.framelog import FrameLog
from paddock.runtime.remote.wire import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from paddock.redaction import Redactor, TextStream
    from paddock.runtime.remote.wire import Peer

__all__ = ["CommandOutput", "RunFrames"]

MAX_OUTPUT_TEXT = 64 * 1024
"""Bytes of a command's output in one frame."""
MAX_CHARACTERS = MAX_OUTPUT_TEXT // 4
"""Characters that are never more bytes than that."""
ROOM = 1024
"""Bytes of a frame that its fields have beside the text which is made to fit."""


class RunFrames:
    """The frames of one run.

    `tell` is called after each frame. `save` writes what no frame can carry to a file, and
    returns its path.
    """

    def __init__(
        self,
        peer: Peer,
        redactor: Redactor,
        *,
        run_id: str,
        tell: Callable[[], None],
        save: Callable[[str], str],
    ) -> None:
        self.peer = peer
        self.redactor = redactor
        self.log = FrameLog(run_id=run_id if peer.negotiated else None)
        self.ended = False
        """Whether the terminal message is among the frames."""
        self._tell = tell
        self._save = save
        self._said: TextStream | None = None

    # ------------------------------------------------------------------ while it runs

    def assistant(self, blocks: Sequence[str]) -> None:
        """Show what the agent says. The end of it is held back while it may begin a secret."""
        if self._said is None:
            self._said = self.redactor.text_stream()
        shown = [self._said.feed(block) for block in blocks]
        for piece in self._fitting(shown):
            self._add({"message_type": "assistant_message", "text_blocks": piece})

    @property
    def _most_characters(self) -> int:
        """How many surely fit into a frame: JSON may take six bytes for one."""
        return (self.peer.max_frame - ROOM) // 6

    def _fitting(self, blocks: list[str]) -> Iterator[list[str]]:
        most = self._most_characters
        if sum(map(len, blocks)) <= most:
            yield blocks
            return
        for block in blocks:
            for start in range(0, len(block), most):
                yield [block[start : start + most]]

    def output(self, stream: str, text: str, command: str) -> None:
        """Show a piece of a command's output, from which secrets were taken."""
        most = min(MAX_CHARACTERS, self._most_characters // 2)
        shown = self.redactor.text(command)[:most]
        for start in range(0, len(text), most):
            self._add(
                {
                    "message_type": "command_output_message",
                    "stream": stream,
                    "text": text[start : start + most],
                    "command": shown,
                }
            )

    def ask(self, request: Mapping[str, Any]) -> None:
        """Ask where an artifact goes; its names have no secrets."""
        frame = {"message_type": "artifact_upload_request_message", **request}
        self._add({**frame, "artifact_type": "other"})

    def heartbeat(self, elapsed: float) -> None:
        """Show that the run, which began `elapsed` seconds ago, is still active."""
        self._add(
            {
                "message_type": "heartbeat_message",
                "phase": "request_in_flight",
                "elapsed_ms": round(elapsed * 1000),
            }
        )

    def warning(self, error: str, metadata: Mapping[str, Any]) -> None:
        """Show an error that may not be the end, to a client that knows such messages."""
        if self.peer.negotiated:
            self._add(self._failure("warning_message", error, bounded(metadata)))

    def _add(self, frame: Mapping[str, Any]) -> None:
        if self.ended:
            return
        self.log.add(frame)
        self._tell()

    # ---------------------------------------------------------------------- the end

    def result(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """End the run with the agent's result. Raise `ValueError` for what is not JSON."""
        frame = self.peer.result(self._redacted_data(data), self._metadata(metadata))
        text = _encoded(frame)
        if not self.peer.takes(text):
            self._too_large(text)
            return
        self._end(frame)

    def _too_large(self, text: str) -> None:
        told = f"Result of {len(text.encode())} bytes is larger than this client takes"
        metadata: dict[str, Any] = {"error_name": "Error", "code": "result_too_large"}
        try:
            metadata["path"] = self._save(text)
        except OSError as error:
            told = f"{told}, and cannot be kept: {error.strerror}"
        self.error(told, metadata)

    def _redacted_data(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: value if key == "type" else self.redactor.value(value)
            for key, value in data.items()
        }

    def command_results(
        self, results: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
    ) -> None:
        """End the run with what became of its commands; long output is shortened to fit."""
        frame: dict[str, Any] = {
            "message_type": "command_execution_result_message",
            "results": [self._redacted_item(item) for item in results],
        }
        if metadata or self.peer.negotiated:
            frame["metadata"] = self._metadata(metadata)
        self._end(self._shortened(frame))

    def _redacted_item(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Its output was redacted when it was read."""
        return {**item, "command": self.redactor.text(item["command"])}

    def _shortened(self, frame: dict[str, Any]) -> dict[str, Any]:
        results = frame["results"]
        most = self.peer.max_frame // (2 * max(1, len(results)))
        while not self.peer.takes(_encoded(frame)) and most > 1:
            for item in results:
                for stream in ("stdout", "stderr", "command"):
                    if len(item.get(stream) or "") > most:
                        item[stream] = head_and_tail(item[stream], most)
                        item[f"{stream}_truncated"] = True
            most //= 2
        return frame

    def error(self, error: str, metadata: Mapping[str, Any]) -> None:
        """End the run with an error."""
        self._end(self._failure("error_message", error, metadata))

    def _failure(self, kind: str, error: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        told = head_and_tail(self.redactor.text(error), self._most_characters // 2)
        return {"message_type": kind, "error": told, "metadata": self._metadata(metadata)}

    def _metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return metadata without secrets, or a mark that it takes more than half of a frame.

        Raise `ValueError` for what is not JSON.
        """
        shown: dict[str, Any] = self.redactor.value(dict(metadata))
        fits = len(_encoded(shown).encode()) <= (self.peer.max_frame - ROOM) // 2
        return shown if fits else {"metadata_truncated": True}

    def _end(self, frame: Mapping[str, Any]) -> None:
        if self.ended:
            return
        if self._said is not None and (rest := self._said.close()):
            self._add({"message_type": "assistant_message", "text_blocks": [rest]})
        self.log.add(frame)
        self.ended = True
        self._tell()


def _encoded(frame: Mapping[str, Any]) -> str:
    try:
        return encode(frame)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None


class CommandOutput:
    """The output of one command as it comes: bytes in, text without secrets out."""

    def __init__(self, frames: RunFrames, command: str) -> None:
        self._frames = frames
        self._command = command
        self._secrets = {stream: frames.redactor.stream() for stream in ("stdout", "stderr")}
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in self._secrets}

    def feed(self, stream: str, data: bytes) -> None:
        """Show what can be told now that `data` has come."""
        told = self._secrets[stream].feed(data)
        self._show(stream, self._decoders[stream].decode(told))

    def close(self) -> None:
        """Show the rest."""
        for stream, secrets in self._secrets.items():
            self._show(stream, self._decoders[stream].decode(secrets.close(), final=True))

    def _show(self, stream: str, text: str) -> None:
        if text:
            self._frames.output(stream, text, self._command)
