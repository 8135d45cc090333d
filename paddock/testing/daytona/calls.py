"""A call of the control plane, as its handlers see it; knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from paddock.testing.daytona.envelope import ApiError

if TYPE_CHECKING:
    from aiohttp import web

    from paddock.testing.daytona.faults import FaultKind

__all__ = ["Answer", "Call", "Handler", "Routes"]

Answer: TypeAlias = "dict[str, Any] | list[Any] | str | web.StreamResponse | None"


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that was let in. `effects` are the faults that it met."""

    request: web.Request
    body: Any
    effects: tuple[FaultKind, ...]

    @property
    def target(self) -> str:
        """The id or the name in the path."""
        variables: Mapping[str, str] = self.request.match_info
        return next(iter(variables.values()))

    def path(self, name: str) -> str:
        """A variable of the path."""
        return self.request.match_info[name]

    def number(self, name: str) -> int:
        """A variable of the path that is a whole number; raises `ApiError` 400."""
        return self._whole(name, self.path(name))

    def query_number(self, name: str, default: int) -> int:
        """A whole number of the query; raises `ApiError` 400."""
        text = self.request.query.get(name)
        return default if text is None else self._whole(name, text)

    def _whole(self, name: str, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ApiError(400, f"{name} must be an integer, not {text}") from None


Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]
Routes: TypeAlias = Mapping[tuple[str, str], Handler]
