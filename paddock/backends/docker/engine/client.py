"""The control plane of one Docker Engine: docker-py in threads, every call with a deadline.

An engine that hangs costs its caller the deadline and no more, and the callers of other engines
nothing. docker-py itself is imported in such a thread, too. This module does not know what a
container of ours looks like.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from paddock._call_threads import CallThreads
from paddock._concurrency import Interrupted, interruptible
from paddock.backends.docker.engine.endpoint import Endpoint
from paddock.errors import MissingDependency, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import APIClient

__all__ = ["Engine", "EngineError"]

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds for a call of the control plane: the slowest, a removal under load, takes some 2 s."""
CALLS = 16
"""Calls at a time to one engine, which does them about as fast when they come one by one."""


class EngineError(SandboxError):
    """The engine refused or did not answer. `status` is its HTTP status, None without one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@functools.lru_cache(maxsize=8)
def _client(endpoint: Endpoint, timeout: float) -> APIClient:
    """One HTTP client for each engine of this process; it agrees with it on a version once."""
    from paddock.backends.docker.engine.unix import Client

    if endpoint.url.startswith("ssh://") and importlib.util.find_spec("paramiko") is None:
        raise MissingDependency("paramiko", "ssh")  # docker-py's adapter needs it to be imported
    return Client(
        base_url=endpoint.url,
        version="auto",
        timeout=timeout,  # type: ignore[arg-type]
        tls=endpoint.tls() or False,
        use_ssh_client=endpoint.url.startswith("ssh://"),
        max_pool_size=2 * CALLS,  # some may hang
    )


@functools.cache
def _threads(endpoint: Endpoint) -> CallThreads:
    return CallThreads(CALLS, "paddock-docker")


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine. Made by `connect`; holds nothing that has to be closed."""

    endpoint: Endpoint
    client: APIClient
    host: str | None = None
    """The address that was asked for; None for the engine that the docker CLI would find."""

    @classmethod
    async def connect(cls, host: str | None = None, *, deadline: float = DEADLINE) -> Engine:
        """Find the engine and agree on a version; `EngineError` says what to do without one,
        `ConfigError` what is wrong where it is looked for.

        `deadline` is in seconds.
        """
        return await cls._at(await asyncio.to_thread(Endpoint.find, host), host, deadline)

    async def with_timeout(self, deadline: float) -> Engine:
        """Return the same engine by a client that waits `deadline` seconds for each answer."""
        return await self._at(self.endpoint, self.host, deadline)

    @classmethod
    async def _at(cls, endpoint: Endpoint, host: str | None, deadline: float) -> Engine:
        connect = functools.partial(_client, endpoint, deadline)
        client = await _in_thread(endpoint, connect, f"reaching {endpoint.url}", deadline)
        return cls(endpoint, client, host)

    @property
    def version(self) -> str:
        """The API version that both sides speak."""
        return str(self.client.api_version)

    async def call(
        self, what: str, method: Callable[..., T], *args: Any, deadline: float = DEADLINE, **kw: Any
    ) -> T:
        """Call a method of `client` in a thread; `what` names it in errors.

        `deadline` is in seconds and includes the wait for a thread. If cancelled or past its
        deadline, the call may still take effect: the caller has to remove what it created by
        name. Within `finish` and `acquire`, a call that hangs is interrupted soon after a
        cancellation. Raises `EngineError`, without a `status` if there was no answer.
        """

        work = functools.partial(method, *args, **kw)
        return await _in_thread(self.endpoint, work, what, deadline)


async def _in_thread(endpoint: Endpoint, work: Callable[[], T], what: str, deadline: float) -> T:
    threads = _threads(endpoint)
    call = threads.submit(functools.partial(_translated, work, what))
    try:
        async with asyncio.timeout(deadline):
            return await interruptible(asyncio.wrap_future(call))
    except TimeoutError:
        raise EngineError(
            f"{what}: the Docker Engine did not answer within {deadline:g} s"
        ) from None
    except Interrupted as error:
        raise EngineError(f"{what}: the Docker Engine gave {error}") from None
    finally:
        threads.leave(call)


def _translated(work: Callable[[], T], what: str) -> T:
    """Do `work` in this thread; raise `EngineError` for what docker-py raises."""
    try:
        import docker
    except ImportError as error:
        raise MissingDependency("docker", "docker") from error
    try:
        return work()
    except docker.errors.APIError as error:
        raise EngineError(
            f"{what}: {error.explanation or error}", status=error.status_code
        ) from None
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(
            f"{what}: no Docker Engine answers ({_root(error)}); "
            "start it, or say where it is with DOCKER_HOST or host="
        ) from None
    except json.JSONDecodeError as error:
        raise EngineError(f"{what}: the engine's answer makes no sense ({error})") from None


def _root(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error)
