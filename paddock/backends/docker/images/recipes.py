"""The recipes that come with Paddock: ``paddock:base`` and those that begin with it.

They are Dockerfiles in folders; this module adds what a build needs beside them. It makes no calls
to an engine.
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
    "folder",
    "names",
    "recipe_bundle",
    "recipe_of",
]

REPOSITORY = "paddock"
DOCKERFILE = "Dockerfile"
LABEL = "dev.paddock.image"
"""Label of every image that Paddock makes: a recipe's name, a digest, or a snapshot's name."""
BASE_LABEL = "dev.paddock.base"
"""Label of an image made of steps: the id of the image that they were done on."""
DEBIAN = "paddock:debian"
"""The image made from Debian packages; ``paddock:base`` begins with it where it exists."""
DEBIAN_SUITE = "bookworm"
DEBIANS_OWN = Path("/usr/share/ca-certificates/mozilla")
"""The certificates that Debian trusts, if this machine runs it: Mozilla's, as of the release."""
CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def folder() -> Path:
    """Return the folder of the recipes: in the package, or beside it in a checkout."""
    package = Path(paddock.__file__).parent
    installed = package / "images"
    return installed if installed.is_dir() else package.parent / "images"


def names() -> list[str]:
    return sorted(path.parent.name for path in folder().glob(f"*/{DOCKERFILE}"))


def recipe_of(reference: str) -> str | None:
    """Return the recipe's name of ``paddock:NAME``; None for any other reference.

    Raise `ConfigError` for a ``paddock:NAME`` without a recipe.
    """
    repository, _, name = reference.partition(":")
    if repository != REPOSITORY or reference == DEBIAN:
        return None
    if name not in names():
        raise ConfigError(f"there is no recipe {reference!r}; there are: {', '.join(names())}")
    return name


def base_packages() -> list[str]:
    return (folder() / "base" / "packages.txt").read_text().split()


def recipe_bundle(name: str, authorities: Path | None) -> Bundle:
    """Return the recipe with the files that belong beside it; blocks.

    `authorities` is a PEM file that this machine trusts; its certificates that are not among
    Mozilla's go into ``base``. Raise `ConfigError` if it cannot be read.
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
    """Return the certificates of a PEM file, by their DER form."""
    return {ssl.PEM_cert_to_DER_cert(match): f"{match}\n" for match in CERTIFICATE.findall(text)}
