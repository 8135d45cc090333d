"""Sandboxes for synchronous code: the same ones, over one event loop in a thread.

::

    from paddock.sync import Sandbox

    with Sandbox.create(backend=LocalBackend()) as sandbox:
        print(sandbox.exec("echo hello").stdout)

Nothing is implemented twice: each method runs the coroutine of `paddock.Sandbox` of that name.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import os
import re
import secrets
import threading
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from paddock._concurrency import finish
from paddock.backends.base import Backend, get_backend
from paddock.errors import ConfigError, SandboxError
from paddock.files import FileReader, FileSystem, FileWriter
from paddock.process import Output
from paddock.runtime.core.calling import call
from paddock.runtime.remote.outside import address, websocket_url
from paddock.runtime.remote.workplace import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from pathlib import PurePosixPath

    from paddock.process import ExecResult, Process
    from paddock.sandbox import Sandbox as AsyncSandbox

__all__ = ["Running", "Sandbox"]

T = TypeVar("T")

READY_TIMEOUT = 30.0
"""Seconds for which `run` waits for a command to end or to say that it listens."""
READY = re.compile(rb"\b(?:listening|running|serving) (?:on|at)\b", re.IGNORECASE)
"""What servers say when they can take connections."""
MAX_READY = 32
"""Bytes before a piece of output in which that may have begun."""
CANCEL_TIMEOUT = 30.0
"""Seconds for what Ctrl-C cancelled to clean up: an engine takes some to remove a container."""
MAX_SAID = 1024 * 1024
"""Bytes of each of stdout and stderr that are kept of a command of `run`."""
AGENT_IMAGE = "paddock:agent"
"""Where `Sandbox.create()` runs commands: an image that has `npx runtimeuse`."""
_STARTING = threading.Lock()


class _Loop:
    """The event loop of this process's synchronous sandboxes, in a thread that ends with it."""

    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there, and wait for it. Ctrl-C cancels it, and waits until it has ended."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "paddock.sync was called from its own event loop, which would wait for itself: "
                "pass a plain function as a callback, or use paddock.Sandbox"
            )
        loop, ended, tasks = self._started(), threading.Event(), list[asyncio.Task[T]]()

        def begin() -> None:
            tasks.append(loop.create_task(work))
            tasks[0].add_done_callback(lambda _: ended.set())

        def cancel() -> None:
            tasks[0].cancel()

        loop.call_soon_threadsafe(begin)
        try:
            ended.wait()
        except BaseException:
            loop.call_soon_threadsafe(cancel)
            ended.wait(CANCEL_TIMEOUT)
            raise
        return tasks[0].result()

    def _started(self) -> asyncio.AbstractEventLoop:
        with _STARTING:
            if self._thread is None or not self._thread.is_alive():  # as in a process after a fork
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="paddock-sync", daemon=True
                )
                self._thread.start()
            return self._loop


_LOOP = _Loop()


class _Synchronous:
    """What `of` has, for synchronous code: coroutine methods, ``async with`` and ``async for``."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        return _synchronous(found) if callable(found) else found

    def __enter__(self) -> Any:
        return _shown(_LOOP.run(self._of.__aenter__()))

    def __exit__(self, *error: object) -> Any:
        return _LOOP.run(self._of.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        pieces = aiter(self._of)
        while (piece := _LOOP.run(_next(pieces))) is not None:
            yield piece


def _synchronous(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        return _shown(_LOOP.run(result) if inspect.iscoroutine(result) else result)

    return run


def _shown(result: Any) -> Any:
    is_async = isinstance(
        result, FileSystem | FileReader | FileWriter | AbstractAsyncContextManager
    )
    return _Synchronous(result) if is_async else result


async def _next(pieces: AsyncIterator[Any]) -> Any:
    return await anext(pieces, None)


class Running:
    """A command that runs on after `Sandbox.run`; `said` is what it has printed so far."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._dropped = {"stdout": 0, "stderr": 0}
        self._changed = asyncio.Event()
        self._has_ended = False
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        ends = {"stdout": b"", "stderr": b""}
        try:
            async for stream, data in self._process.output():
                self._keep(stream, data)
                if READY.search(ends[stream] + data):
                    self._changed.set()
                ends[stream] = (ends[stream] + data)[-MAX_READY:]
        except SandboxError:
            pass  # the sandbox says so at the next call
        finally:
            self._has_ended = True
            self._changed.set()

    def _keep(self, stream: str, data: bytes) -> None:
        kept = self._output[stream]
        room = MAX_SAID - len(kept)
        kept += data[:room]
        self._dropped[stream] += max(0, len(data) - room)

    @property
    def said(self) -> str:
        return "".join(bytes(each).decode(errors="replace") for each in self._output.values())

    def stop(self) -> None:
        """End its whole tree."""
        _LOOP.run(self._process.aclose())

    async def result(self, limit: float) -> ExecResult | None:
        """Wait until it listens or has ended, at most `limit` seconds; return how it ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()
        if not self._has_ended:
            return None
        out, err = (
            Output(head=bytes(kept), dropped=self._dropped[stream])
            for stream, kept in self._output.items()
        )
        return dataclasses.replace(await self._process.wait(), out=out, err=err)


class Sandbox:
    """A sandbox for synchronous code; close it, or use it as ``with``. See `paddock.Sandbox`."""

    def __init__(self, sandbox: AsyncSandbox, token: str) -> None:
        self._made = sandbox
        self._made_in = os.getpid()
        self._token = token

    @property
    def _sandbox(self) -> AsyncSandbox:
        if os.getpid() != self._made_in:  # the loop that has its connection was not forked
            raise SandboxError(
                f"sandbox {self._made.id} belongs to process {self._made_in}, which forked this "
                "one: make a sandbox in this process"
            )
        return self._made

    @classmethod
    def create(cls, backend: Backend | str | None = None) -> Self:
        """Make a sandbox by `backend`: a recipe, or the name of a kind.

        Without one it is a Docker container of the image ``paddock:agent``, which has
        ``npx runtimeuse``.
        """
        return _LOOP.run(cls._create(backend))

    @classmethod
    async def _create(cls, backend: Backend | str | None) -> Self:
        recipe = _recipe(backend)
        token = recipe.env_vars.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)
        env = {**recipe.env_vars, TOKEN_VARIABLE: token}
        return cls(await dataclasses.replace(recipe, env_vars=env).create(), token)

    @property
    def id(self) -> str:
        return self._sandbox.id

    @property
    def working_dir(self) -> PurePosixPath:
        return self._sandbox.working_dir

    @property
    def fs(self) -> Any:
        """The files: the methods of `paddock.FileSystem`, which return when they are done."""
        return _Synchronous(self._sandbox.fs)

    def exec(self, command: str | Sequence[str], **options: Any) -> ExecResult:
        """Run a command to its end; see `paddock.Sandbox.exec` for the options.

        A plain function as `on_output` is called in a thread: it may block, and use this sandbox.
        """
        if (on_output := options.get("on_output")) is not None:
            options["on_output"] = functools.partial(call, on_output)
        return _LOOP.run(self._sandbox.exec(command, **options))

    def run(
        self, command: str | Sequence[str], *, wait: float = READY_TIMEOUT, **options: Any
    ) -> ExecResult | Running:
        """Start a command, and return its result, or the command that is still `Running`.

        It is that when it says that it listens, as servers do, or has run for `wait` seconds.
        """
        return _LOOP.run(self._run(command, wait, options))

    async def _run(
        self, command: str | Sequence[str], wait: float, options: dict[str, Any]
    ) -> ExecResult | Running:
        process = await self._sandbox.start(command, **options)
        try:
            await process.send_eof()
            running = Running(process)
            return await running.result(wait) or running
        except BaseException:  # Ctrl-C, too: no caller holds the command to stop it
            await finish(process.aclose())
            raise

    def get_url(self, port: int) -> str:
        """Return the ``ws://`` URL of a runtime that `run` started at that port."""
        return websocket_url(_LOOP.run(address(self._sandbox, port)), self._token)

    def close(self) -> None:
        """Take the sandbox down."""
        _LOOP.run(self._sandbox.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _recipe(backend: Backend | str | None) -> Backend:
    if isinstance(backend, Backend):
        return backend
    if backend is not None and not isinstance(backend, str):
        raise ConfigError(f"backend: give a recipe or a name, not {type(backend).__name__}")
    if backend in (None, "docker"):
        from paddock.backends.docker import DockerBackend

        return DockerBackend(image=AGENT_IMAGE)
    return get_backend(backend or "")()
