"""Services beside a sandbox: containers of testcontainers that programs inside reach as localhost.

A relay inside takes the connections. For each it uses a connection that this side has made to it
through `Sandbox.url`, so the sandbox needs no network. It is not known here what a service is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from paddock._concurrency import AsyncResource, acquire, cancel, finish
from paddock.backends.guest.relay import TcpStream, relay
from paddock.errors import ConfigError, SandboxError, Unsupported
from paddock.sandbox import Capability

if TYPE_CHECKING:
    from paddock.sandbox import Process, Sandbox

__all__ = ["Service", "Services"]

WAITING = 4
"""Connections that wait at the relay for the next ones from inside; a client that finds none
waits until one is made, which takes milliseconds."""
CONNECT_TIMEOUT = 10.0
"""Seconds for a connection on this machine, which is very busy then."""
RELAY_TIMEOUT = 60.0
"""Seconds for Python to start inside, on a machine that is very busy."""

RELAY = """
import asyncio, sys

async def carry(reader, writer):
    try:
        while True:
            data = await reader.read(65536)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()

async def main():
    waiting = asyncio.Queue()

    async def on_tunnel(reader, writer):
        waiting.put_nowait((reader, writer))

    async def on_client(reader, writer):
        while True:
            there, way = await waiting.get()
            if not there.at_eof():
                break
            way.close()
        way.write(b"+")
        await asyncio.gather(carry(reader, way), carry(there, writer))
        way.close()
        writer.close()

    try:
        clients = await asyncio.start_server(on_client, "127.0.0.1", int(sys.argv[1]))
    except OSError:
        clients = await asyncio.start_server(on_client, "127.0.0.1", 0)
    tunnels = await asyncio.start_server(on_tunnel, "127.0.0.1", 0)
    print(*(each.sockets[0].getsockname()[1] for each in (clients, tunnels)), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
"""Runs inside. A tunnel that is used begins with one byte more."""


class Service(Protocol):
    """What a container of testcontainers has, and is used here."""

    @property
    def ports(self) -> Mapping[Any, Any]: ...

    def start(self) -> object: ...

    def stop(self) -> object: ...

    def get_container_host_ip(self) -> str: ...

    def get_exposed_port(self, port: int) -> int: ...

    def get_wrapped_container(self) -> Any: ...


class Services(AsyncResource):
    """Containers that are started here, unless they run already, and the ways to them."""

    def __init__(self, containers: Mapping[str, Service]) -> None:
        self._containers = containers
        self._started: list[Service] = []
        self._relays: list[_Relay] = []

    async def start(self) -> None:
        """Start the containers. What was started is stopped by `aclose`."""
        _check(self._containers)
        for container in self._containers.values():
            if await asyncio.to_thread(_runs, container):
                continue
            self._started.append(container)
            await finish(asyncio.to_thread(container.start))

    async def join(self, sandbox: Sandbox) -> None:
        """Let the sandbox reach them. Its commands get NAME_HOST, NAME_PORT and maybe NAME_URL."""
        if self._containers and Capability.TCP not in sandbox.capabilities:
            raise Unsupported(
                "services=", backend=sandbox.backend, hint="its ports lead nothing but HTTP"
            )
        for name, container in self._containers.items():
            port = _port(name, container)
            there = container.get_container_host_ip(), int(container.get_exposed_port(port))
            link = await _Relay.open(sandbox, there, wanted=port)
            self._relays.append(link)
            variables = {f"{name}_host": "127.0.0.1", f"{name}_port": str(link.port)}
            if hasattr(container, "get_connection_url"):
                url = urlsplit(container.get_connection_url(host="127.0.0.1"))
                place = f"{url.netloc.rpartition(':')[0]}:{link.port}"
                variables[f"{name}_url"] = url._replace(netloc=place).geturl()
            sandbox.env = {**sandbox.env, **{key.upper(): variables[key] for key in variables}}

    async def leave(self) -> None:
        """Close the ways to them, before the sandbox closes."""
        relays, self._relays = self._relays, []
        for link in relays:
            await link.aclose()

    async def _close(self) -> None:
        await self.leave()
        while self._started:
            await asyncio.to_thread(self._started[-1].stop)
            self._started.pop()


def _check(containers: object) -> None:
    if not isinstance(containers, Mapping):
        raise ConfigError(f"services={containers!r}: give a dictionary of containers")
    for name, container in containers.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"services: {name!r} is no name for variables: give letters")
        if not hasattr(container, "get_wrapped_container"):
            raise ConfigError(f"services: {name!r}: give a container of testcontainers")


def _runs(container: Service) -> bool:
    try:
        from docker.errors import NotFound
        from testcontainers.core.exceptions import ContainerStartException
    except ModuleNotFoundError:
        raise ConfigError("services: install them with: pip install testcontainers") from None

    try:
        found = container.get_wrapped_container()
        found.reload()
    except (ContainerStartException, NotFound):  # it was not started, or has been stopped
        return False
    return bool(found.status == "running")


def _port(name: str, container: Service) -> int:
    if not container.ports:
        raise ConfigError(f"services: {name!r} exposes no port: use with_exposed_ports()")
    return int(str(next(iter(container.ports))).partition("/")[0])


class _Relay(AsyncResource):
    """The way from one port inside to one address of this machine."""

    port: int

    def __init__(self, process: Process, there: tuple[str, int]) -> None:
        self._process = process
        self._there = there
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, sandbox: Sandbox, there: tuple[str, int], *, wanted: int) -> _Relay:
        """Start the relay inside. It listens on port `wanted`, or on another if that is taken."""
        process = await sandbox.start(["python3", "-c", RELAY, str(wanted)])
        opened = cls(process, there)
        try:
            async with asyncio.timeout(RELAY_TIMEOUT):
                opened.port, tunnel = await _two_ports(process, sandbox)
            place = urlsplit(await sandbox.url(tunnel))
        except BaseException:
            await opened.aclose()
            raise
        for _ in range(WAITING):
            opened._wait_at(place.hostname or "127.0.0.1", place.port or 80)
        return opened

    def _wait_at(self, host: str, port: int) -> None:
        """Make a connection that waits at the relay, and another one when that is used."""

        async def carry() -> None:
            with contextlib.suppress(OSError), await _connect(host, port) as inside:
                first = await inside.receive()
                if not first:
                    return
                self._wait_at(host, port)
                with await _connect(*self._there) as outside:
                    if first[1:]:  # of a client that speaks first
                        await outside.send(first[1:])
                    await relay(inside, outside)

        task = asyncio.create_task(carry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self) -> None:
        if self._tasks:
            await cancel(*self._tasks)
        await self._process.aclose()


async def _two_ports(process: Process, sandbox: Sandbox) -> tuple[int, int]:
    said = b""
    async with contextlib.aclosing(process.output()) as output:  # type: ignore[type-var]
        async for stream, data in output:
            said += data
            if stream == "stdout" and said.endswith(b"\n"):
                first, second = said.split()
                return int(first), int(second)
    result = await process.wait()
    if result.exit_code == 127:
        raise Unsupported("services=", backend=sandbox.backend, hint="there is no python3 inside")
    raise SandboxError(f"the relay to a service ended: {result.stderr.strip()}")


async def _connect(host: str, port: int) -> TcpStream:
    async def connect() -> TcpStream:
        return TcpStream(
            await asyncio.to_thread(socket.create_connection, (host, port), CONNECT_TIMEOUT)
        )

    return await acquire(connect(), _closed)


async def _closed(stream: TcpStream) -> None:
    stream.close()
