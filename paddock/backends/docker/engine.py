"""The control plane of one Docker Engine: docker-py in threads, every call with a deadline.

An engine that hangs costs its caller the deadline and no more. It does not know what a
container of ours looks like.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from paddock.backends.docker.endpoint import Endpoint
from paddock.backends.docker.threads import DaemonThreads
from paddock.errors import MissingDependency, SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import APIClient

__all__ = ["Engine", "EngineError"]

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds for a call of the control plane: the slowest, a removal under load, takes some 2 s."""
THREADS = 16
"""Calls at once; the engine works them off about as fast as one thread sends them."""

_threads = DaemonThreads(THREADS, "paddock-docker")


class EngineError(SandboxError):
    """The engine refused or did not answer. `status` is its HTTP status, None without one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def _docker() -> Any:
    try:
        import docker
    except ImportError as error:
        raise MissingDependency("docker", "docker") from error
    return docker


@functools.lru_cache(maxsize=8)
def _client(endpoint: Endpoint, patience: float) -> APIClient:
    """One HTTP client for each engine of this process; it agrees with it on a version once."""
    if endpoint.url.startswith("ssh://") and importlib.util.find_spec("paramiko") is None:
        raise MissingDependency("paramiko", "ssh")  # docker-py's adapter needs it to be imported
    _knock(endpoint)
    return _docker().APIClient(  # type: ignore[no-any-return]
        base_url=endpoint.url,
        version="auto",
        timeout=patience,
        tls=endpoint.tls() or False,
        use_ssh_client=endpoint.url.startswith("ssh://"),
        max_pool_size=THREADS,
    )


def _knock(endpoint: Endpoint) -> None:
    """Raise `OSError` if nobody listens: docker-py leaves a socket open that it cannot connect."""
    place = urlsplit(endpoint.url)
    if place.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as trial:
            trial.connect(place.path)


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine. Made by `connect`; holds nothing that has to be closed."""

    endpoint: Endpoint
    client: APIClient

    @classmethod
    async def connect(cls, host: str | None = None, *, deadline: float = DEADLINE) -> Engine:
        """Find the engine and agree on a version; `EngineError` says what to do without one,
        `ConfigError` what is wrong where it is looked for.

        `deadline`, in seconds, is how long one that hangs may keep a thread busy, too.
        """
        return await cls._at(await asyncio.to_thread(Endpoint.find, host), deadline)

    async def patient(self, deadline: float) -> Engine:
        """The same engine by a client that waits for an answer for `deadline` seconds."""
        return await self._at(self.endpoint, deadline)

    @classmethod
    async def _at(cls, endpoint: Endpoint, deadline: float) -> Engine:
        client = await _in_thread(
            functools.partial(_client, endpoint, deadline), f"reaching {endpoint.url}", deadline
        )
        return cls(endpoint, client)

    @property
    def version(self) -> str:
        """The API version that both sides speak."""
        return str(self.client.api_version)

    async def call(
        self, what: str, method: Callable[..., T], *args: Any, deadline: float = DEADLINE, **kw: Any
    ) -> T:
        """Call a method of `client` in a thread; `what` names it in errors.

        If cancelled or past its `deadline` (seconds), the call may still take effect:
        whoever creates something has to remove it by name.
        """

        def work() -> T:
            _knock(self.endpoint)
            return method(*args, **kw)

        return await _in_thread(work, what, deadline)


async def _in_thread(work: Callable[[], T], what: str, deadline: float) -> T:
    docker = _docker()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline):
            return await loop.run_in_executor(_threads, work)
    except TimeoutError:
        raise EngineError(
            f"{what}: the Docker Engine did not answer within {deadline:g} s"
        ) from None
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
