"""How Daytona words an error; independent of where it is raised."""

from __future__ import annotations

import datetime as dt
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ApiError", "error_body", "error_response"]


class ApiError(Exception):
    """An error of the control plane or of the proxy, to be answered with `status`."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(status, message, code)
        self.status = status
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f"{self.status} {self.message}"


def error_body(status: int, message: str, path: str, code: str | None = None) -> dict[str, Any]:
    """The envelope of the control plane; newer servers add `code` and `source`."""
    body: dict[str, Any] = {
        "path": path,
        "timestamp": dt.datetime.now(dt.UTC).isoformat(),
        "statusCode": status,
        "error": HTTPStatus(status).phrase,
        "message": message,
    }
    return body if code is None else {**body, "code": code, "source": "DAYTONA_API"}


def error_response(
    request: web.Request,
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The envelope as an answer to `request`."""
    body = error_body(status, message, request.path, code)
    return web.json_response(body, status=status, headers=headers)
