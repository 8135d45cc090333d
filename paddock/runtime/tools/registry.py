"""The tools that one agent may call, by name. Knows no particular tool and no sandbox."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.errors import ConfigError, ToolError
from paddock.runtime.core.tool import InvalidCall, RunAborted, ToolOutput
from paddock.runtime.tools.arguments import shown
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.child import ChildTool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from paddock.runtime.core.tool import ToolInvocation
    from paddock.runtime.permissions.profile import PermissionProfile

__all__ = ["ToolRegistry"]

_log = get_logger(__name__)
_SHOWN_ARGUMENTS = 500  # characters of a failed call's arguments that its result repeats


class ToolRegistry:
    """Handlers by name. Its methods do not wait, but for `dispatch`, which many tasks may call.

    With a `profile`, the profile decides which calls need approval, besides the
    handlers that ask for it themselves.
    """

    is_patient = False

    def __init__(
        self, handlers: Iterable[ToolHandler] = (), *, profile: PermissionProfile | None = None
    ) -> None:
        self.profile = profile
        # Replaced and never changed: copies share them.
        self._handlers: Mapping[str, ToolHandler] = {}
        self._concurrent: Mapping[str, bool] = {}
        for handler in handlers:
            self.register(handler)

    def register(
        self, handler: ToolHandler | Callable[..., Any], *, concurrent: bool | None = None
    ) -> ToolHandler:
        """Add `handler`, or replace the one that has the same name, and return it. A function
        becomes a tool.

        `concurrent` overrides `ToolHandler.is_concurrent`. Raises `ConfigError` if the handler's
        name, description or parameters cannot be sent to a model.
        """
        handler = _handler(handler)
        handler.check_definition()
        self.unregister(handler.name)
        self._handlers = {**self._handlers, handler.name: handler}
        if concurrent is not None:
            self._concurrent = {**self._concurrent, handler.name: concurrent}
        return handler

    def unregister(self, name: str) -> ToolHandler | None:
        """Take the handler `name` out and return it; None if there was none."""
        found = self._handlers.get(name)
        self._keep(each for each in self._handlers if each != name)
        return found

    def clear(self) -> None:
        self._keep(())

    def get(self, name: str) -> ToolHandler | None:
        return self._handlers.get(name)

    def copy(self) -> ToolRegistry:
        """A registry of its own with the same handlers and profile."""
        copied = type(self)(profile=self.profile)
        copied._handlers, copied._concurrent = self._handlers, self._concurrent
        return copied

    def include(self, other: ToolRegistry, *, without: Collection[str] = ()) -> None:
        """Register the handlers of `other`, except those whose names are in `without`."""
        added = other.without(without)  # whose handlers were checked there
        self._keep(self._handlers.keys() - added._handlers.keys())
        self._handlers = {**self._handlers, **added._handlers}
        self._concurrent = {**self._concurrent, **added._concurrent}

    def __contains__(self, name: object) -> bool:
        return name in self._handlers

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._handlers))

    def __len__(self) -> int:
        return len(self._handlers)

    def get_specs(self) -> list[dict[str, Any]]:
        """The enabled tools in OpenAI function format, by name: a stable order caches well."""
        return [
            handler.to_spec() for _, handler in sorted(self._handlers.items()) if handler.is_enabled
        ]

    def requires_approval(self, name: str, arguments: Mapping[str, Any] | None = None) -> bool:
        """Whether this call has to be approved: its handler or the profile says so.

        An unknown tool needs none: its call does nothing.
        """
        handler = self._handlers.get(name)
        if handler is None:
            return False
        if handler.requires_approval:
            return True
        return self.profile is not None and self.profile.requires_approval(name, arguments or {})

    def is_concurrent(self, name: str) -> bool:
        """Whether a call of this tool may run at the same time as others of the same answer.

        An unknown tool's may: it does nothing. Agents that share the caller's sandbox may where
        the profile lets none of them change anything.
        """
        handler = self._handlers.get(name)
        if handler is None or handler.is_concurrent:
            return self._concurrent.get(name, True)
        harmless = self.profile is not None and self.profile.changes_nothing
        return self._concurrent.get(name, harmless and self.runs_agents(name))

    def runs_agents(self, name: str) -> bool:
        """Whether a call runs another agent, which ends in bounded time when cancelled."""
        return isinstance(self._handlers.get(name), ChildTool)

    def is_resumable(self, name: str) -> bool:
        """Whether a call that was begun in an earlier run may be entered again."""
        handler = self._handlers.get(name)
        return handler is not None and handler.is_resumable

    def without(self, names: Collection[str]) -> ToolRegistry:
        """Return a copy that lacks the tools `names`."""
        copied = self.copy()
        copied._keep(self._handlers.keys() - names)
        return copied

    def _keep(self, names: Iterable[str]) -> None:
        """Take all handlers out but those called `names`."""
        kept = frozenset(names)
        self._handlers = {name: each for name, each in self._handlers.items() if name in kept}
        self._concurrent = {name: each for name, each in self._concurrent.items() if name in kept}

    async def dispatch(self, invocation: ToolInvocation) -> ToolOutput:
        """Run one call and return its result, which is a result also when the call fails.

        An unknown or disabled tool, arguments that do not fit the schema and every
        `Exception` of the handler become an output with ``success=False``, whose
        metadata names the ``error`` type. The text of a `ToolError` is all that the model reads.
        Cancellation passes through.
        """
        name = invocation.tool_name
        handler = self._handlers.get(name)
        if handler is None:
            return _failure(f"Unknown tool: {name}", InvalidCall(name), "UnknownTool")
        if not handler.is_enabled:
            text = f"Tool '{name}' is currently disabled"
            return _failure(text, InvalidCall(name), "ToolDisabled")
        try:
            arguments = handler.read_arguments(invocation.arguments)
        except InvalidCall as error:
            return _failure(f"Invalid arguments for tool '{name}': {error}", error)
        try:
            output = await handler.handle(dataclasses.replace(invocation, arguments=arguments))
            if not isinstance(output, ToolOutput):
                raise TypeError(f"handle returned {type(output).__name__}, not a ToolOutput")
            return output
        except ToolError as error:
            return _failure(str(error), error)
        except Exception as error:
            _log.debug("tool %s failed", name, exc_info=True)
            kind = type(error.cause if isinstance(error, RunAborted) else error).__name__
            told = shown(arguments, _SHOWN_ARGUMENTS)
            text = f"Tool '{name}' failed: {kind}: {error}\nArguments: {told}"
            return _failure(text, error)


def _handler(given: ToolHandler | Callable[..., Any]) -> ToolHandler:
    if isinstance(given, ToolHandler):
        return given
    if not callable(given):
        raise ConfigError(f"a tool is a function or a ToolHandler, not {given!r}")
    from paddock.runtime.tools.function import FunctionTool  # imports pydantic; many need none

    return FunctionTool(given)


def _failure(content: str, error: Exception, kind: str | None = None) -> ToolOutput:
    metadata = {"error": kind or type(error).__name__}
    return ToolOutput(content=content, success=False, metadata=metadata, error=error)
