"""The hosts that a sandbox may reach: allow lists, and their decisions.

One spelling for every host is defined here, for the lists and for the lookups
in them, so two spellings of one host never differ. It knows nothing of proxies or of DNS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Address", "Allow", "Network", "NetworkDecision", "check_network", "parse_host", "parse_port",
    "parse_target", "split_port",
]  # fmt: skip

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_PORTS = frozenset({80, 443})
"""The ports of a host that is listed without one."""
NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
NAME_MAX = 253
NUMBER_LAST = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9a-fA-F]*)\.?")
"""Names that some programs take for an IPv4 address: 127.1, 0x7f000001, 2130706433, 0177.0.0.1."""
PORT = re.compile(r"[0-9]{1,5}")
PREFIX = re.compile(r"[0-9]{1,3}")
HINT = (
    "give example.org, example.org:8443, *.example.org, 192.0.2.1:80, [2001:db8::1]:80, "
    "192.0.2.0/24 or [2001:db8::]/32:80"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDecision:
    """One attempt to reach a host, and the decision.

    `time` is in seconds since the epoch. `host` is as it was asked for, and `port` 0, when
    the request made no sense. `reason` is for a person to read.
    """

    time: float
    host: str
    port: int
    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str | Address | Network
    below: bool
    """Only names below `host` are meant, not itself."""
    ports: frozenset[int]

    def matches(self, host: str | Address, port: int) -> bool:
        if port not in self.ports:
            return False
        if self.below:
            return isinstance(host, str) and host.endswith(f".{self.host}")
        if isinstance(self.host, Network):
            return not isinstance(host, str) and host in self.host
        return host == self.host


@dataclass(frozen=True, kw_only=True)
class Allow:
    """A network with only these hosts: each is ``name``, ``name:port``, an address, or all
    addresses of a network (``10.1.0.0/16:5432``, ``[2001:db8::]/32``).

    Without a port, 80 and 443 are allowed. ``*.example.com`` is every name below example.com,
    without example.com itself. A private or local address is allowed only if it is listed as an
    address (``10.0.0.5:5432``, ``[::1]:8080``), never through a name, and through a network only
    if the network is private as a whole: ``0.0.0.0/0`` means public addresses. An empty list
    allows nothing. Raises `ConfigError`.
    """

    hosts: Sequence[str]
    _entries: tuple[_Entry, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.hosts, str) or not isinstance(self.hosts, Iterable):
            raise ConfigError(f"hosts takes a list, not {self.hosts!r}")
        object.__setattr__(self, "hosts", tuple(self.hosts))
        object.__setattr__(self, "_entries", tuple(_parse_entry(text) for text in self.hosts))

    def entry_for(self, host: str | Address, port: int) -> str | None:
        """The entry by which `host` (see `parse_host`) may be reached, or None."""
        for text, entry in zip(self.hosts, self._entries, strict=True):
            if entry.matches(host, port):
                return text
        return None

    def network_of(self, entry: str) -> Network | None:
        """The network that one of the `hosts` is; None for a name and for one address."""
        found = self._entries[self.hosts.index(entry)].host
        return found if isinstance(found, Network) else None


def check_network(network: object, *words: str) -> None:
    """Raise `ConfigError` for a recipe's network that is neither a list nor one of `words`."""
    if not isinstance(network, Allow) and network not in words:
        raise ConfigError(f"network={network!r}: give {', '.join(words)} or Allow(...)")


def parse_host(text: str) -> str | Address:
    """The one spelling of a host: a lower-case name without a final dot, or an address.

    Takes ASCII only, IPv6 in brackets, IPv4 in four decimal numbers. Raises `ValueError`.
    """
    if not text.isascii():
        raise ValueError("a host has to be in ASCII (xn--...)")
    if text.startswith("[") and text.endswith("]") and "%" not in text:
        return IPv6Address(text[1:-1])
    if NUMBER_LAST.fullmatch(text):
        return IPv4Address(text)
    name = text.lower().removesuffix(".")
    if len(name) > NAME_MAX or not NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


def parse_target(text: str) -> str | Address | Network:
    """What a list may name: a host (see `parse_host`), or a network. Raises `ValueError`."""
    host, slash, prefix = text.partition("/")
    parsed = parse_host(host)
    if not slash:
        return parsed
    if isinstance(parsed, str) or not PREFIX.fullmatch(prefix):
        raise ValueError("not a network")
    if isinstance(parsed, IPv4Address):
        return IPv4Network((parsed, int(prefix)))
    return IPv6Network((parsed, int(prefix)))


def parse_port(text: str) -> int:
    """Raises `ValueError`."""
    if not PORT.fullmatch(text) or not 0 < int(text) < 65536:
        raise ValueError("not a port")
    return int(text)


def _parse_entry(text: str) -> _Entry:
    try:
        if not isinstance(text, str):
            raise ValueError("not text")
        host, port = split_port(text)
        below = host.startswith("*.")
        parsed = parse_target(_in_ascii(host.removeprefix("*.")))
        if below and not isinstance(parsed, str):
            raise ValueError("an address has no subdomains")
        ports = DEFAULT_PORTS if port is None else frozenset({parse_port(port)})
    except ValueError as error:
        raise ConfigError(f"network: {text!r}: {error}; {HINT}") from None
    return _Entry(host=parsed, below=below, ports=ports)


def split_port(text: str) -> tuple[str, str | None]:
    """The host and, after a colon that is not an IPv6 address's, the port."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        return text, None
    return host, port


def _in_ascii(host: str) -> str:
    """A name in any script as DNS has it."""
    if host.isascii():
        return host
    import idna  # its tables take a while to load

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(str(error)) from None
