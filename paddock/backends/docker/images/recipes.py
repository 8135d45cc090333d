"""The recipes that come with Paddock: ``paddock:base`` and those that begin with it.

They are Dockerfiles in folders; what is put beside them for a build is put there here.
No engine is talked to.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import paddock
from paddock.backends.docker.images.wheel import running_wheel
from paddock.errors import ConfigError
from paddock.image.bundle import Bundle, bytes_member, directory_member, read_tree

if TYPE_CHECKING:
    from paddock.image.bundle import Member

__all__ = [
    "BASE_LABEL",
    "DEBIAN",
    "DEBIAN_SUITE",
    "LABEL",
    "REPOSITORY",
    "base_packages",
    "bases_of",
    "folder",
    "names",
    "recipe_bundle",
    "recipe_of",
]

REPOSITORY = "paddock"
DOCKERFILE = "Dockerfile"
LABEL = "dev.paddock.image"
"""On every image that Paddock makes: a recipe's name, a digest, or a snapshot's name."""
BASE_LABEL = "dev.paddock.base"
"""On an image that steps have made: the id of the one that they were done on."""
DEBIAN = "paddock:debian"
"""What is made from Debian packages; ``paddock:base`` begins with it where it exists."""
DEBIAN_SUITE = "bookworm"
DEBIANS_OWN = Path("/usr/share/ca-certificates/mozilla")
"""What Debian trusts, where this machine is one: Mozilla's, as of the release."""
FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.MULTILINE | re.IGNORECASE)
CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def folder() -> Path:
    """Where the recipes are: in the package, or beside it in a checkout."""
    package = Path(paddock.__file__).parent
    installed = package / "images"
    return installed if installed.is_dir() else package.parent / "images"


def names() -> list[str]:
    return sorted(path.parent.name for path in folder().glob(f"*/{DOCKERFILE}"))


def recipe_of(reference: str) -> str | None:
    """``paddock:NAME`` as a recipe's name; None for everything else.

    Raises `ConfigError` where the name is like a recipe's and no recipe has it.
    """
    repository, _, name = reference.partition(":")
    if repository != REPOSITORY or reference == DEBIAN:
        return None
    if name not in names():
        raise ConfigError(f"there is no recipe {reference!r}; there are: {', '.join(names())}")
    return name


def bases_of(dockerfile: str) -> list[str]:
    """The recipes' images that a Dockerfile begins with."""
    found = dict.fromkeys(FROM.findall(dockerfile))
    return [name for name in found if name.startswith(f"{REPOSITORY}:") and name != DEBIAN]


def base_packages() -> list[str]:
    return (folder() / "base" / "packages.txt").read_text().split()


def recipe_bundle(name: str, authorities: Path | None) -> Bundle:
    """The recipe with what belongs beside it; blocks.

    `authorities` is a PEM file of what this machine trusts; those in it that are not
    among Mozilla's go into ``base``. Raises `ConfigError` if it cannot be read.
    """
    place = folder() / name
    members = list(read_tree("", place, ()))
    if name == "base":
        members.append(directory_member("certificates"))
        members += map(_certificate_member, _own_authorities(authorities))
    elif name == "agent":
        members.append(bytes_member(*running_wheel()))
    return Bundle((place / DOCKERFILE).read_text(), tuple(members), DOCKERFILE)


def _certificate_member(text: str) -> Member:
    data = text.encode()
    return bytes_member(f"certificates/{hashlib.sha256(data).hexdigest()[:16]}.crt", data)


def _own_authorities(path: Path | None) -> list[str]:
    import certifi

    if path is None:
        return []
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a list of certificates: {error}") from error
    common = [Path(certifi.where()), *DEBIANS_OWN.glob("*.crt")]
    known = {der for path in common for der in _certificates(path.read_text())}
    return [text for identity, text in _certificates(text).items() if identity not in known]


def _certificates(text: str) -> dict[bytes, str]:
    """Those of a PEM file, by what they are and not how they are written."""
    return {ssl.PEM_cert_to_DER_cert(match): f"{match}\n" for match in CERTIFICATE.findall(text)}
