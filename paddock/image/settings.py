"""How this machine builds images: its networks, proxies, package indexes and authorities."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from paddock._frozen import FrozenMapping
from paddock.errors import ConfigError
from paddock.image.dockerfile import INDEX_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BuildSettings", "RegistryLogin"]

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
ARGUMENT = re.compile(r"^\s*ARG\s+(\w+)", re.MULTILINE | re.IGNORECASE)
USER_INFO = re.compile(r"^(\w[\w+.-]*://)?[^/]*@")
"""A user and perhaps a password, at the beginning of a proxy's address."""
INDEX_NAME = re.compile(r"^[\w.-]+=(?=[\w+.-]+:)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """Who pulls from a registry: `username` with `password`, or an identity `token`.

    Its repr shows neither password nor token. Raises `ConfigError` unless it is one of the two.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.token is None) == (self.username is None or self.password is None):
            raise ConfigError("a RegistryLogin is a username with a password, or a token")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """How this machine builds; none of it is part of an image's digest.

    - `network`: the network of a build's commands, as ``docker build --network``.
    - `args`: build arguments. Each is passed to a Dockerfile that declares it; proxies are
      passed to all, with their passwords. An engine records all but proxies in the image's
      history.
    - `authorities`: a PEM file; ``paddock:base`` is made to trust the certificates in it that
      are not among Mozilla's.
    - `platform`: of images that are pulled, such as ``linux/arm64``; the engine's own by default.
    - `auth`: logins by registry (``registry.example.com:5000``, ``docker.io``). They take
      precedence over those of the docker CLI's config.json and its credential helpers.
    """

    network: str | None = None
    args: Mapping[str, str] = field(default_factory=FrozenMapping)
    authorities: Path | None = None
    platform: str | None = None
    auth: Mapping[str, RegistryLogin] = field(default_factory=FrozenMapping, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", FrozenMapping(self.args))
        object.__setattr__(self, "auth", FrozenMapping(self.auth))

    @classmethod
    def from_environment(cls) -> BuildSettings:
        """Read the standard variables: proxies, pip's and uv's indexes, SSL_CERT_FILE.

        A Dockerfile may be anybody's: proxies are passed to it without user and password. The
        address of an index with a password, or of a path of this machine, is ignored.
        """
        proxies = [name for upper in PROXIES for name in (upper, upper.lower())]
        args = {
            name: USER_INFO.sub(r"\1", value) for name in proxies if (value := os.environ.get(name))
        }
        for name in INDEX_VARIABLES:
            if (value := os.environ.get(name)) and all(map(_is_public, value.split())):
                args[name] = value
        authorities = os.environ.get("SSL_CERT_FILE")
        return cls(
            network=os.environ.get("PADDOCK_BUILD_NETWORK") or None,
            args=args,
            authorities=Path(authorities) if authorities else None,
        )

    def args_for(self, dockerfile: str) -> dict[str, str]:
        """Return the arguments that a build of this text gets."""
        wanted = {*ARGUMENT.findall(dockerfile)}
        return {
            name: value
            for name, value in self.args.items()
            if name in wanted or name.upper() in PROXIES
        }


def _is_public(address: str) -> bool:
    """Return whether an index, as ``URL`` or ``NAME=URL``, has no password and is no path here."""
    try:
        url = urlsplit(INDEX_NAME.sub("", address))
    except ValueError:
        return False
    return url.scheme != "file" and "@" not in url.netloc and not url.query
