"""Answers to a server that wants to bring out artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.unit.runtime.remote.store import Store


class Answers:
    """Answers requests for uploads with URLs of the store, by their relative path."""

    def __init__(self, store: Store, *, silent: bool = False, by_name: bool = False) -> None:
        self._store = store
        self._silent = silent
        self._key = "filename" if by_name else "relative_path"
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: dict[str, Any]) -> dict[str, Any] | None:
        self.asked.append(request)
        if self._silent:
            return None
        return {
            "message_type": "artifact_upload_response_message",
            "filename": request["filename"],
            "filepath": request["filepath"],
            "presigned_url": f"{self._store.url}/{request[self._key]}",
            "content_type": "text/plain",
        }
