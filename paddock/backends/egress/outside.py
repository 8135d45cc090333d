"""The network of this machine, as a proxy uses it: names, addresses, connections.

An address that a name leads to has to be a public one: what is private is reached by
no one who only controls a name. It does not know who asks.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from paddock.backends.guest.relay import TcpStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.network import Address, Network

__all__ = ["Outside", "is_closed", "objection"]

LOOKUP_DEADLINE = 10.0
CONNECT_DEADLINE = 5.0
"""Seconds for one address: then the next is tried, if there is one,"""
ADDRESSES_MAX = 4
"""of so many."""
THREADS = 16

_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="paddock-lookup")
"""Of its own: a sandbox that asks for names which take long must not hold up the rest."""

# IANA's registries of special-purpose addresses, and what clouds answer to instances at.
CLOSED_V4 = {
    IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a provider",
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "a metadata service",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved",
        "192.0.2.0/24": "for documentation",
        "192.88.99.0/24": "a 6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All else is loopback, local, private, multicast, unassigned, or an IPv4 address in disguise."""
CLOSED_V6 = {
    IPv6Network(network): what
    for network, what in {
        "2001::/23": "reserved (Teredo and others)",
        "2001:db8::/32": "for documentation",
        "2002::/16": "an IPv4 address (6to4)",
        "3fff::/20": "for documentation",
    }.items()
}


def objection(address: Address) -> str | None:
    """Why `address` is not a public one, or None if it is."""
    if isinstance(address, IPv4Address):
        return next((what for network, what in CLOSED_V4.items() if address in network), None)
    if address not in GLOBAL_UNICAST:
        return "not a public address"
    return next((what for network, what in CLOSED_V6.items() if address in network), None)


def is_closed(network: Network) -> bool:
    """Whether `network` as a whole is one that `objection` objects to."""
    if isinstance(network, IPv4Network):
        return any(network.subnet_of(closed) for closed in CLOSED_V4)
    return not network.overlaps(GLOBAL_UNICAST) or any(map(network.subnet_of, CLOSED_V6))


class Outside:
    """Looks names up and connects."""

    async def lookup(self, name: str) -> Sequence[Address]:
        """The addresses of a name, in the order of preference. Raises `OSError`."""
        query = functools.partial(socket.getaddrinfo, name.encode(), None, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(LOOKUP_DEADLINE):
                found = await asyncio.get_running_loop().run_in_executor(_threads, query)
        except TimeoutError:
            raise TimeoutError(f"no answer within {LOOKUP_DEADLINE:g} s") from None
        return [ip_address(str(place[4][0]).partition("%")[0]) for place in found]  # no zones

    def objection(self, address: Address) -> str | None:
        """Why a name must not lead to `address`, or None."""
        found = objection(address)
        return "this machine's own" if found is None and _is_own(address) else found

    async def connect(self, addresses: Sequence[Address], port: int) -> TcpStream:
        """A connection to the first address that takes one. Raises `OSError`."""
        failure: OSError = ConnectionError("it has no address")
        for address in addresses[:ADDRESSES_MAX]:
            try:
                async with asyncio.timeout(CONNECT_DEADLINE):
                    return await _connect(address, port)
            except TimeoutError:
                failure = TimeoutError(f"{address} does not answer")
            except OSError as error:
                failure = error
        raise failure


async def _connect(address: Address, port: int) -> TcpStream:
    connecting = socket.socket(_family(address))
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, (str(address), port))
        return TcpStream(connecting)
    except BaseException:
        connecting.close()
        raise


def _is_own(address: Address) -> bool:
    """Whether it is an address of this machine: one to which it would speak from itself."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(address), 9))  # of UDP, so nothing is sent
        except OSError:
            return False  # there is no way to it at all
        return ip_address(asking.getsockname()[0]) == address


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
