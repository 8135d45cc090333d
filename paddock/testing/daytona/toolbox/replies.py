"""What the daemon answers with: JSON, and errors in its own envelope."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DaemonError",
    "check_variables",
    "error_details",
    "no_content",
    "of_system",
    "wire_time",
]

SOURCE = "DAYTONA_DAEMON"

_CODES = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT",
    410: "GONE",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class DaemonError(Exception):
    """A refusal: `status` and `code` as the client sees them."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES[status]

    def answer(self, request: web.Request) -> web.Response:
        details = error_details(self, path=request.path, method=request.method)
        return web.json_response(details, status=self.status)


def error_details(error: DaemonError, *, path: str, method: str) -> dict[str, Any]:
    """The envelope that every error of the daemon has."""
    return {
        "statusCode": error.status,
        "message": error.message,
        "code": error.code,
        "timestamp": wire_time(datetime.now(UTC)),
        "path": path,
        "method": method,
        "source": SOURCE,
    }


def wire_time(moment: datetime) -> str:
    """A moment in UTC as the daemon writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def of_system(error: OSError, path: str) -> DaemonError:
    """What the operating system said about `path`, as the daemon tells it."""
    if isinstance(error, FileNotFoundError):
        return DaemonError(404, f"file not found: {path}", "FILE_NOT_FOUND")
    if isinstance(error, PermissionError):
        return DaemonError(403, f"access denied: {path}", "FILE_ACCESS_DENIED")
    reason = (error.strerror or str(error)).lower()
    return DaemonError(400, f"{reason}: {path}", "INVALID_FILE_PATH")


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise `DaemonError` 400 if a name is not one that a shell takes."""
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise DaemonError(400, f"invalid environment variable key: {name!r}")


def no_content() -> web.Response:
    return web.Response(status=204)
