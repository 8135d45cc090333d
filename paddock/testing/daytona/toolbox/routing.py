"""Which handler answers which method and path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from paddock.testing.daytona.toolbox.replies import DaemonError

__all__ = ["Handler", "Routes"]

Handler = Callable[..., Awaitable[web.StreamResponse]]
"""Takes the request, and the values of the path's fields by keyword."""


class Routes:
    """A table of handlers; fields in a path are written ``{name}``."""

    def __init__(self, table: dict[str, Handler]) -> None:
        self._table = [(*_compile(pattern), handler) for pattern, handler in table.items()]

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, Any]]:
        """The handler and the path's fields. Raises `DaemonError` 501 where there is none."""
        for known, pattern, handler in self._table:
            if known == method and (match := pattern.fullmatch(path)):
                return handler, {name: unquote(text) for name, text in match.groupdict().items()}
        raise DaemonError(501, f"{method} {path} is not served here", "INTERNAL_SERVER_ERROR")


def _compile(pattern: str) -> tuple[str, re.Pattern[str]]:
    method, path = pattern.split(" ")
    return method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
