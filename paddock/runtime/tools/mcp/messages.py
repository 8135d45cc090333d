"""Messages of a server, before anything else looks at them: read as far as they can be, and short.

A list of a hundred thousand parts would hold the event loop for seconds while each is checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from paddock.errors import MissingDependency
from paddock.runtime.core.text import clean_text

try:
    import mcp_types as types
    from mcp.shared.message import SessionMessage
except ImportError as error:
    raise MissingDependency(error.name or "mcp", "mcp") from error

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from mcp.shared._stream_protocols import ReadStream

__all__ = [
    "MAX_BLOCKS",
    "MAX_TOOLS",
    "UNREADABLE",
    "BoundedMessages",
    "bounded",
    "read_message",
]

MAX_BLOCKS: Final = 1000
"""Parts of a result that are looked at."""

MAX_TOOLS: Final = 500
"""Of one server: a model chooses badly among more, and each request carries all of them."""

_LISTS = {"content": MAX_BLOCKS, "tools": MAX_TOOLS}
UNREADABLE = "it sent an invalid answer"


def read_message(line: bytes) -> types.JSONRPCMessage | None:
    """Return the message in `line`, or None. An invalid answer becomes an error for its call,
    which would wait for its whole time otherwise."""
    try:
        return types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        pass
    try:
        found = _clean(json.loads(line))  # takes more than the other: lone surrogates, deep values
        return types.jsonrpc_message_adapter.validate_python(found, by_name=False)
    except RecursionError:
        return None
    except ValueError:
        return _unreadable(line)


def _unreadable(line: bytes) -> types.JSONRPCError | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or "method" in found or not found.keys() & {"result", "error"}:
        return None
    if isinstance(found.get("id"), bool) or not isinstance(found.get("id"), int | str):
        return None
    problem = types.ErrorData(code=types.INVALID_REQUEST, message=UNREADABLE)
    return types.JSONRPCError(jsonrpc="2.0", id=found["id"], error=problem)


def _clean(value: Any) -> Any:
    match value:
        case dict():
            return {clean_text(name): _clean(each) for name, each in value.items()}
        case list():
            return [_clean(each) for each in value]
        case str():
            return clean_text(value)
        case _:
            return value


def bounded(message: types.JSONRPCMessage) -> types.JSONRPCMessage:
    """Return `message` with one element more than is taken of each long list."""
    if isinstance(message, types.JSONRPCResponse):
        for name, most in _LISTS.items():
            found = message.result.get(name)
            if isinstance(found, list):
                del found[most + 1 :]
    return message


class BoundedMessages:
    """A stream of messages that are `bounded`."""

    def __init__(self, inner: ReadStream[SessionMessage | Exception]) -> None:
        self._inner = inner

    async def receive(self) -> SessionMessage | Exception:
        return _bounded(await self._inner.receive())

    async def aclose(self) -> None:
        await self._inner.aclose()

    @property
    def last_context(self) -> Any:
        """See `ReadStream`."""
        return getattr(self._inner, "last_context", None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        return _bounded(await self._inner.__anext__())

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


def _bounded(found: SessionMessage | Exception) -> SessionMessage | Exception:
    if isinstance(found, SessionMessage):
        bounded(found.message)
    return found
