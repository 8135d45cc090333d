"""From a recipe's network to what its guest listens to and what programs inside are told."""

from __future__ import annotations

from paddock._frozen import FrozenMapping
from paddock.backends.egress.proxy import Proxy
from paddock.backends.guest.ports import Gate
from paddock.network import Allow

__all__ = ["PROXY_PORT", "gate"]

PROXY_PORT = 3128
"""The customary port of web proxies: on a loopback of its own, no server is in its way."""
NOT_PROXIED = "localhost,127.0.0.1,::1"


def gate(network: Allow | str) -> Gate:
    """What lets out of a sandbox what an allow list allows; without a list there is none."""
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
    return FrozenMapping({**told, **{name.lower(): value for name, value in told.items()}})
