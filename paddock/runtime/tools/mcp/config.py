"""Which MCP servers an agent uses: `McpServer`, and its form in files. Connects to nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from paddock.errors import ConfigError
from paddock.runtime.core.variables import check_references, names_in, replaced

__all__ = ["McpServer", "Place", "parse_mcp_servers"]

Place = Literal["sandbox", "host"]

DEFAULT_START_TIMEOUT: Final = 60.0
"""Seconds until a server has said which tools it has: it may be downloaded first."""

DEFAULT_CALL_TIMEOUT: Final = 120.0
"""Seconds that one call may take: an agent waits for its result."""

MAX_NAME = 30
"""Characters of a server's name: tools have it before theirs, and services take 64 in all."""

_NAME = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class McpServer:
    """An MCP server whose tools an agent uses, as ``NAME__TOOL``.

    It has a `command`, which is run and spoken to by its stdin and stdout, or a `url` (Streamable
    HTTP). A command runs in the agent's sandbox (`where`), or on this machine, as its user.

    - `env`: variables of the command. `headers`: sent with each request to the `url`. In both
      ``${NAME}`` is replaced by that variable of this process's environment when the server is
      connected to, and its value is redacted in results.
    - `cwd`: where the command runs.
    - `tools`: the only tools that are used; None for all.
    - `approval`: ``always`` asks for an approval of each call; by ``profile`` the agent's profile
      decides.
    - `start_timeout`, `call_timeout`: seconds until the server is ready, and for each call.

    Raises `ConfigError` that names the server and the field.
    """

    name: str
    command: Sequence[str] | None = None
    url: str | None = None
    where: Place = "sandbox"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    tools: Sequence[str] | None = None
    approval: Literal["profile", "always"] = "profile"
    start_timeout: float = DEFAULT_START_TIMEOUT
    call_timeout: float = DEFAULT_CALL_TIMEOUT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(str(self.name)):
            raise ConfigError(
                f"mcp_servers: the name {self.name!r} has to be letters and digits, with single "
                "'_' or '-' between them"
            )
        if len(self.name) > MAX_NAME:
            raise ConfigError(f"mcp_servers: {self.name} is longer than {MAX_NAME} characters")
        for name in ("env", "headers"):
            object.__setattr__(self, name, _texts(getattr(self, name), f"{self.place}.{name}"))
        for name in ("command", "tools"):
            object.__setattr__(self, name, _list(getattr(self, name), f"{self.place}.{name}"))
        for name, choices in (("where", Place), ("approval", Literal["profile", "always"])):
            value, known = getattr(self, name), get_args(choices)
            if value not in known:
                raise ConfigError(f"{self.place}.{name}: {value!r} is not {' or '.join(known)}")
        for name in ("start_timeout", "call_timeout"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value <= 3600:
                raise ConfigError(f"{self.place}.{name}: {value!r} is not within 0 and 3600")
        self._check_way()

    def _check_way(self) -> None:
        if (self.command is None) == (self.url is None):
            raise ConfigError(f"{self.place}: give either command or url")
        if self.command is not None:
            unused = ["headers"] if self.headers else []
            if not self.command or not self.command[0]:
                raise ConfigError(f"{self.place}.command: give a program and its arguments")
        else:
            given = (("env", self.env), ("cwd", self.cwd), ("where", self.where == "host"))
            unused = [name for name, value in given if value]
            self._check_url()
        if unused:
            raise ConfigError(f"{self.place}.{unused[0]}: this server has no use for it")
        if self.cwd is not None and not isinstance(self.cwd, str):
            raise ConfigError(f"{self.place}.cwd: give a text")

    def _check_url(self) -> None:
        try:
            parts = urlsplit(str(self.url))
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.place}.url: give an http or https URL")
        if parts.username or parts.password:
            raise ConfigError(f"{self.place}.url: what is secret belongs in headers")

    @property
    def always_asks(self) -> bool:
        """Whether each call needs an approval, whatever else says so."""
        return self.approval == "always"

    @property
    def place(self) -> str:
        """What errors call it."""
        return f"mcp_servers.{self.name}"

    @property
    def references(self) -> list[str]:
        """The names of the variables of this process's environment that it takes."""
        values = (*self.env.values(), *self.headers.values())
        return [name for value in values for name in names_in(value)]

    def resolve(
        self, given: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return `given`, one of the mappings above, with the values of the variables.

        Raise `ConfigError` for a variable that is not set.
        """
        known = os.environ if environment is None else environment
        return {
            name: replaced(value, known, f"{self.place}: {name}") for name, value in given.items()
        }

    def to_dict(self, *, partial: bool = False) -> dict[str, Any]:
        """Return its form in a file. Raise `ConfigError` for a header that has no ``${NAME}``:
        what is secret is not written. If `partial`, such a header is left out."""
        document: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name != "headers" and value not in (each.default, {}):
                document[each.name] = list(value) if isinstance(value, tuple) else value
        written = {n: value for n, value in self.headers.items() if names_in(value)}
        if not partial and (left_out := sorted(self.headers.keys() - written)):
            raise ConfigError(
                f"{self.place}.headers.{left_out[0]}: what is secret is not written; give it as "
                "${NAME}"
            )
        return {**document, "headers": written} if written else document


def parse_mcp_servers(given: object, *, source: str = "") -> tuple[McpServer, ...]:
    """Return the servers that `given` lists, each an `McpServer` or a mapping of its fields.

    Raise `ConfigError`, which begins with `source`, that names what is wrong.
    """
    if given is None:
        return ()
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"{source}mcp_servers has to be a list of servers")
    servers = tuple(_parse(each, source) for each in given)
    names = [server.name for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{source}mcp_servers: two servers have the name {name!r}")
    return servers


def _parse(given: object, source: str) -> McpServer:
    if isinstance(given, McpServer):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{source}mcp_servers: a server is a mapping, not {given!r:.60}")
    known = [each.name for each in fields(McpServer)]
    if unknown := [name for name in given if name not in known]:
        raise ConfigError(
            f"{source}mcp_servers: there is no field {unknown[0]!r}; there are {', '.join(known)}"
        )
    if "name" not in given:
        raise ConfigError(f"{source}mcp_servers: a server needs a name")
    try:
        return McpServer(**{str(name): value for name, value in given.items()})
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None


def _texts(given: object, place: str) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{place}: give a mapping of names to texts")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"{place}: the value of {name!r} has to be text")
        check_references(value, f"{place}.{name}")
    return dict(given)


def _list(given: object, place: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"{place}: give a list of texts")
    found = tuple(given)
    if not all(isinstance(each, str) for each in found):
        raise ConfigError(f"{place}: give a list of texts")
    return found
