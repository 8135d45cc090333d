"""From a recipe's network to the guest's listeners and the proxy variables of programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock._frozen import FrozenMapping
from paddock.backends.egress.proxy import Proxy
from paddock.backends.guest.ports import JAVA_OPTIONS, Gate
from paddock.network import Allow

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROXY_PORT", "gate"]

PROXY_PORT = 3128
"""The customary port of web proxies: on a loopback of its own, no server is in its way."""
NOT_PROXIED = "localhost,127.0.0.1,::1"
NODE = {"NODE_USE_ENV_PROXY": "1"}
"""Node reads the variables of proxies only if this is set (22.21 and 24)."""


def gate(network: Allow | str) -> Gate:
    """Lets out of a sandbox what an allow list allows; without a list, nothing."""
    if not isinstance(network, Allow):
        return Gate()
    proxy = Proxy(network)
    return Gate(port=PROXY_PORT, variables=_variables(), log=proxy.log, serve=proxy.serve)


def _variables() -> FrozenMapping[str, str]:
    """Both spellings: programs differ in which they read, and some read only one."""
    address = f"http://127.0.0.1:{PROXY_PORT}"
    told = {
        "HTTP_PROXY": address,
        "HTTPS_PROXY": address,
        "ALL_PROXY": address,
        "NO_PROXY": NOT_PROXIED,
    }
    lower = {name.lower(): value for name, value in told.items()}
    return FrozenMapping({**told, **lower, **NODE, JAVA_OPTIONS: " ".join(_java_options())})


def _java_options() -> Iterator[str]:
    """Java's own properties, since it reads no variables of proxies."""
    for scheme in ("http", "https"):
        yield f"-D{scheme}.proxyHost=127.0.0.1"
        yield f"-D{scheme}.proxyPort={PROXY_PORT}"
    yield "-Dhttp.nonProxyHosts=localhost|127.*|[::1]"
