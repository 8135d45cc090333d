"""The sandboxes of a runtime: which calls share one, and when each ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from paddock._concurrency import finish
from paddock.backends.base import Backend, get_backend
from paddock.errors import ConfigError, SandboxClosed, SessionError
from paddock.files import FileSystem
from paddock.runtime.core.lazy import LazyResource
from paddock.runtime.orchestration.fields import RECIPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable

    from paddock.process import Process
    from paddock.runtime.orchestration.fields import SandboxScope
    from paddock.runtime.orchestration.spec import RuntimeSpec
    from paddock.sandbox import ExecResult, Sandbox

__all__ = ["SandboxAccess", "Sandboxes"]

DEFAULT_BACKEND = "local"
DEFAULT_SCOPE: SandboxScope = "thread"


class _Key(NamedTuple):
    """What shares a sandbox. `agent` is None where all agents of the thread do that have the
    recipe of this number."""

    thread_id: str
    agent: str | None
    recipe: int


class Sandboxes:
    """Makes a sandbox when a tool first needs it, and ends it with what it belongs to.

    A sandbox of a thread, or of an agent in a thread, ends with the last run there, or where a run
    keeps it, when it is released. That of a call ends with the call. Agents with the same recipe
    share a sandbox, those with another one do not.

    Raises `ConfigError` for an unknown backend.
    """

    def __init__(self, spec: RuntimeSpec) -> None:
        shared = _recipe(spec.backend or DEFAULT_BACKEND, "the runtime")
        self._recipes = {
            each.name: _recipe(each.backend, f"agent {each.name!r}") if each.backend else shared
            for each in spec.agents
        }
        self._scopes = {
            agent.name: agent.sandbox or spec.sandbox or DEFAULT_SCOPE for agent in spec.agents
        }
        self._kept: dict[_Key, LazyResource[Sandbox]] = {}
        self._runs: Counter[str] = Counter()
        self._keeping: set[str] = set()

    def recipe(self, agent: str) -> Backend:
        """Return the recipe of the sandboxes of `agent`."""
        return self._recipes[agent]

    @contextlib.asynccontextmanager
    async def during_run(self, thread_id: str, *, keep: bool) -> AsyncIterator[None]:
        """Have a run in a thread. The sandboxes of the thread end with its last run, unless this or
        another run there says `keep`."""
        self._runs[thread_id] += 1
        if keep:
            self._keeping.add(thread_id)
        try:
            yield
        finally:
            self._runs[thread_id] -= 1
            if not self._runs[thread_id]:
                del self._runs[thread_id]
                if thread_id not in self._keeping:
                    await self.release(thread_id)

    async def release(self, thread_id: str) -> None:
        """End the sandboxes of a thread. Raise `SessionError` while a run uses them.

        Runs to its end if cancelled.
        """
        if self._runs[thread_id]:
            raise SessionError(f"a run is active in the thread {thread_id!r}")
        self._keeping.discard(thread_id)
        await finish(self._end([key for key in self._kept if key.thread_id == thread_id]))

    @contextlib.asynccontextmanager
    async def during_call(self, agent: str, thread_id: str) -> AsyncIterator[SandboxAccess]:
        """Yield the sandbox of one call by `agent`."""
        own = self._lazy(agent) if self._scopes[agent] == "call" else None
        access = SandboxAccess(
            functools.partial(self.get, agent, thread_id) if own is None else own.get
        )
        try:
            yield access
        finally:
            access.end()
            if own is not None:
                await own.aclose()

    async def aclose(self) -> None:
        """End all sandboxes. Idempotent; runs to its end if cancelled."""
        await finish(self._end([*self._kept]))

    async def get(self, agent: str, thread_id: str) -> Sandbox:
        """Return the sandbox of `agent` in a thread, also if each of its calls has another one."""
        owner = agent if self._scopes[agent] == "agent" else None
        key = _Key(thread_id, owner, [*self._recipes.values()].index(self._recipes[agent]))
        lazy = self._kept.get(key)
        if lazy is None:
            lazy = self._kept[key] = self._lazy(agent)
        sandbox = await lazy.get()
        if not sandbox.lost:
            return sandbox
        if self._kept.get(key) is lazy:  # no other call has seen it yet
            self._kept[key] = self._lazy(agent)
        await lazy.aclose()
        return await self._kept[key].get()

    def _lazy(self, agent: str) -> LazyResource[Sandbox]:
        return LazyResource(self._recipes[agent].create, name=f"sandbox of agent {agent!r}")

    async def _end(self, keys: Iterable[_Key]) -> None:
        ended = [self._kept.pop(key) for key in keys]
        results = await asyncio.gather(*(each.aclose() for each in ended), return_exceptions=True)
        errors = [each for each in results if isinstance(each, BaseException)]
        if errors:
            raise errors[0]


class SandboxAccess:
    """The sandbox of a tool, which is made when it is first used.

    ``await ctx.sandbox.exec("ls")``, `start`, `url` and the methods of `fs` make it where they
    need it; ``await ctx.sandbox()`` returns the `Sandbox` itself, which has all the rest. It makes
    none after the call has ended: `SandboxClosed`.
    """

    def __init__(self, make: Callable[[], Awaitable[Sandbox]]) -> None:
        self._make = make
        self._has_ended = False

    async def __call__(self) -> Sandbox:
        if self._has_ended:
            raise SandboxClosed("the tool call whose sandbox this is has ended")
        return await self._make()

    def __await__(self) -> Generator[Any, Any, Sandbox]:
        return self().__await__()

    def end(self) -> None:
        """Note that the call has ended."""
        self._has_ended = True

    async def exec(self, *args: Any, **options: Any) -> ExecResult:
        """See `Sandbox.exec`."""
        return await (await self()).exec(*args, **options)

    async def start(self, *args: Any, **options: Any) -> Process:
        """See `Sandbox.start`."""
        return await (await self()).start(*args, **options)

    async def url(self, port: int) -> str:
        """See `Sandbox.url`."""
        return await (await self()).url(port)

    @property
    def fs(self) -> _Files:
        return _Files(self)


class _Files:
    """The methods of a `FileSystem` that are awaited."""

    def __init__(self, access: SandboxAccess) -> None:
        self._access = access

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if not inspect.iscoroutinefunction(getattr(FileSystem, name, None)):
            raise AttributeError(
                f"ctx.sandbox.fs has no {name!r}; (await ctx.sandbox()).fs is the whole file system"
            )

        async def method(*args: Any, **options: Any) -> Any:
            return await getattr((await self._access()).fs, name)(*args, **options)

        return method


def _recipe(backend: str | Backend, owner: str) -> Backend:
    if isinstance(backend, Backend):
        return backend
    if backend.startswith(RECIPE):
        raise ConfigError(
            f"{owner} had a recipe for its backend ({backend.removeprefix(RECIPE)}), which the "
            "dump of a spec does not have; give it again"
        )
    try:
        return get_backend(backend)()
    except ConfigError as error:
        raise ConfigError(f"{owner}: {error}") from error
