"""docker-py's client, but for a fault: it left open a socket that could not be connected.

Such a socket is found by the garbage collector, and warned of wherever that happens to run.
Imports docker-py, so it is imported where that is, in a thread.
"""

from __future__ import annotations

import socket
from typing import Any

import docker  # noqa: TID253 - see above
from docker.transport import UnixHTTPAdapter  # noqa: TID253
from docker.transport.unixconn import (  # noqa: TID253
    UnixHTTPConnection,
    UnixHTTPConnectionPool,
)

__all__ = ["Client"]

CONNECT_TIMEOUT = 5.0
"""Seconds for a socket of this machine to accept: one whose queue is full would never do."""


class Client(docker.APIClient):
    """As docker-py's, over sockets that are closed in any case."""

    def mount(self, prefix: Any, adapter: Any) -> None:
        if isinstance(adapter, UnixHTTPAdapter):
            address = f"http+unix://{adapter.socket_path}"
            adapter = _Adapter(address, adapter.timeout, max_pool_size=adapter.max_pool_size)
        super().mount(prefix, adapter)


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> UnixHTTPConnectionPool:
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                size = self.max_pool_size
                pool = self.pools[url] = _Pool(url, self.socket_path, self.timeout, maxsize=size)
        return pool


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        timeout: Any = self.timeout  # of the pool; its connections are given a number of seconds
        return _Connection(self.base_url, self.socket_path, timeout)


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        connecting = socket.socket(socket.AF_UNIX)
        try:
            connecting.settimeout(CONNECT_TIMEOUT)
            connecting.connect(self.unix_socket)
            connecting.settimeout(self.timeout)
        except TimeoutError as error:
            connecting.close()
            raise ConnectionRefusedError("it accepts no connection") from error
        except BaseException:
            connecting.close()
            raise
        self.sock = connecting
