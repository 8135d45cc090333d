"""Functions as tools: `tool` makes a handler of a function's signature and docstring."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from paddock.errors import ConfigError, ToolError
from paddock.runtime.core.threads import run_in_thread
from paddock.runtime.core.tool import TOOL_NAME, RunAborted
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.docstrings import describe
from paddock.runtime.tools.results import as_output
from paddock.runtime.tools.signature import read_signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from paddock.runtime.core.context import RunContext
    from paddock.runtime.core.tool import ToolInvocation, ToolOutput

__all__ = ["FunctionTool", "tool"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Instance = TypeVar("Instance")


class FunctionTool(ToolHandler, Generic[P, R]):
    """A function that an agent may call; it can be called as before, too. See `tool`.

    As an attribute of a class it is a method: the tool of an instance is what the instance has.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        concurrent: bool = False,
        resumable: bool = False,
        requires_approval: bool = False,
        timeout: float | None = None,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ConfigError(f"a tool's timeout is in seconds and above 0, not {timeout!r}")
        self._function: Callable[..., Any] = function
        if isinstance(function, classmethod | staticmethod):
            self._function = function.__func__
        target = _target(self._function)
        self.name = _name(self._function) if name is None else name
        _require_usable(target, self.name)
        self._binds_class = isinstance(function, classmethod)
        self._is_unbound = self._binds_class or (
            not isinstance(function, staticmethod) and _is_method(self._function)
        )
        described = describe(inspect.getdoc(target) or inspect.getdoc(self._function))
        self._signature = read_signature(
            self._function,
            tool=self.name,
            method=self._is_unbound,
            scope=_scope(target),
            described=described.parameters,
        )
        self.description: str = described.text if description is None else description
        self.parameters: dict[str, Any] = self._signature.schema
        self.is_concurrent = concurrent
        self.is_resumable = resumable
        self.requires_approval = requires_approval
        self._timeout = timeout
        self._is_async = inspect.iscoroutinefunction(target)
        functools.update_wrapper(self, target, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._function(*args, **kwargs)
        return result

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(
        self: FunctionTool[Concatenate[Instance, Q], R], instance: Instance, owner: type
    ) -> FunctionTool[Q, R]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Self: ...

    def __get__(self, instance: object, owner: type) -> Any:
        if not self._is_unbound or (instance is None and not self._binds_class):
            return self
        bound = copy.copy(self)
        bound._function = self._function.__get__(owner if self._binds_class else instance)
        bound._is_unbound = False
        return bound

    def read_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._signature.bind(arguments)

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        context = invocation.context
        args = (context,) if self._signature.takes_context else ()
        if args:
            self._check_deps(context)
        call = functools.partial(self._function, *args, **invocation.arguments)
        clock = asyncio.timeout(self._timeout)
        try:
            async with clock:
                return as_output(await self._run(call, context))
        except TimeoutError as error:
            if not clock.expired():
                raise
            still = "" if self._is_async else " It still runs, and may have an effect."
            raise ToolError(f"Tool '{self.name}' took over {self._timeout:g} s.{still}") from error
        except SystemExit as error:
            raise RuntimeError(f"it called sys.exit({error.code!r})") from error

    async def _run(self, call: Callable[[], Any], context: RunContext[Any]) -> object:
        try:
            result = call() if self._is_async else await run_in_thread(call, name=self.name)
            return await result if inspect.isawaitable(result) else result
        except asyncio.CancelledError:
            context.cancellation.cancel("the caller no longer waits for the result")
            raise

    def check_definition(self) -> None:
        super().check_definition()
        if self._is_unbound:
            raise ConfigError(f"tool {self.name!r} is a method: give that of an instance")

    def _check_deps(self, context: RunContext[Any]) -> None:
        wanted = self._signature.deps
        if wanted is not None and not isinstance(context.deps, wanted):
            raise RunAborted(
                ConfigError(
                    f"tool {self.name!r} needs deps of type {wanted.__qualname__}, not "
                    f"{type(context.deps).__qualname__}: give them to Session.run(deps=...)"
                )
            )


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    concurrent: bool = False,
    resumable: bool = False,
    requires_approval: bool = False,
    timeout: float | None = None,
) -> FunctionTool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    concurrent: bool = False,
    resumable: bool = False,
    requires_approval: bool = False,
    timeout: float | None = None,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a function, sync or async, or of anything that can be called.

    ::

        @tool
        async def count_lines(ctx: RunContext[None], path: str) -> int:
            \"\"\"Count the lines of a text file.

            Args:
                path: The file, from the working directory.
            \"\"\"
            sandbox = await ctx.sandbox()
            return len((await sandbox.fs.read_text(path)).splitlines())

    The annotations are the schema of the arguments, which arrive as values of these types; the
    docstring describes the tool and its parameters. A first parameter annotated as `RunContext`
    is not the model's to give. What is returned may be text, an `ImagePart`, a list of both, or
    data, which the model reads as JSON. Raise `ToolError` to tell the model what to do better.

    A synchronous function runs in a thread. It cannot be stopped: when the run is cancelled, or
    after `timeout` seconds, it is left behind; look at ``ctx.cancellation`` in one that takes long.

    - `name` and `description` default to those of the function and its docstring.
    - `concurrent`: a call may run at the same time as others; see `ToolHandler`.
    - `resumable`: a call may be entered again in a later run; see `ToolHandler`.
    - `requires_approval`: each call has to be approved.
    - `timeout`: seconds after which a call fails.

    Raises `ConfigError` for a parameter that has no JSON schema.
    """
    if function is None:
        return functools.partial(FunctionTool, **options)
    if isinstance(function, FunctionTool):
        raise ConfigError(f"{function.name!r} is a tool already")
    return FunctionTool(function, **options)


def _require_usable(target: Any, name: str) -> None:
    """Raise `ConfigError` if calling `target` does no work, or a model cannot call it `name`."""
    if inspect.isclass(target):
        raise ConfigError(f"{target.__name__} is a class; give an instance of it as a tool")
    if not TOOL_NAME.fullmatch(name):
        raise ConfigError(
            f"tool {name!r} needs another name: at most 64 letters, digits, '_' and '-', "
            "as in tool(name='search')"
        )
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise ConfigError(f"tool {name!r} is a generator function; return a list instead")


def _target(function: Callable[..., Any]) -> Any:
    """Return the function that calling `function` ends up in."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.ismethod(function):
        function = function.__func__
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = type(function).__call__
    return inspect.unwrap(function)


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _is_method(function: Callable[..., Any]) -> bool:
    """Return whether `function` was defined in the body of a class, and takes the instance."""
    within, _, _ = getattr(function, "__qualname__", "").rpartition(".")
    if not inspect.isfunction(function) or not within or within.endswith("<locals>"):
        return False
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.annotation is inspect.Parameter.empty


def _scope(function: Any) -> dict[str, Any]:
    """Return the names that annotations of `function` may use: those of its module and of the
    functions and classes around it, as far as these are being run."""
    known = getattr(function, "__globals__", {})
    path = getattr(function, "__qualname__", "")
    names: dict[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is known and path.startswith(f"{frame.f_code.co_qualname}."):
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return {**known, **names}
