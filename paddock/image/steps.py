"""The steps of an image, one frozen value each; what is impossible is refused when one is made.

Paths of this machine are absolute here (see `local_path`) and are not looked at before
the image is compiled.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from paddock._frozen import FrozenMapping
from paddock.errors import ConfigError
from paddock.image.ignore import IgnoreRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "AddLocalDir",
    "AddLocalFile",
    "AptInstall",
    "Env",
    "FromDockerfile",
    "FromRegistry",
    "PipInstall",
    "PipInstallFromPyproject",
    "PipInstallFromRequirements",
    "PipOptions",
    "RunCommands",
    "Step",
    "User",
    "UvSync",
    "Workdir",
    "local_path",
]

REFERENCE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*([:/@][a-zA-Z0-9_][a-zA-Z0-9_.-]*)*")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?([=/][a-zA-Z0-9.+:~-]+)?")
"""A Debian package, with an architecture, a version or a release if need be."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PLATFORM = re.compile(r"[a-z0-9]+(/[a-z0-9_]+){1,2}")
"""An operating system, an architecture, and its variant if need be."""
SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
LONGEST_SECRET = 100_000
"""Bytes of a secret's text: it is a variable of a process, which a kernel limits to 128 KiB."""
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""Of an extra or a dependency group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FromRegistry:
    """Begin with an image that the engine has, or can pull."""

    verb: ClassVar[str] = "from_registry"
    name: str

    def __post_init__(self) -> None:
        _matching(self.verb, REFERENCE, self.name, "a reference such as python:3.12-slim")


@dataclass(frozen=True, slots=True, kw_only=True)
class FromDockerfile:
    """Begin with what a Dockerfile makes of its context.

    `secrets` are text, or files of this machine, by the ids that ``RUN --mount=type=secret`` names.
    They are no part of the image.
    """

    verb: ClassVar[str] = "from_dockerfile"
    path: Path
    context: Path
    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=FrozenMapping)
    secrets: Mapping[str, str | Path] = field(default_factory=FrozenMapping, repr=False)
    platform: str | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            _matching(self.verb, STAGE, self.target, "the name of a stage")
        if self.platform is not None:
            _matching(self.verb, PLATFORM, self.platform, "a platform such as linux/arm64")
        for name, value in self.build_args.items():
            _matching(self.verb, VARIABLE, name, "a build argument's name")
            _check_argument(name, value)
        for name, secret in self.secrets.items():
            _matching(self.verb, SECRET, name, "the id of a secret")
            if isinstance(secret, str):
                _check_secret(name, secret)
        _set(self, build_args=FrozenMapping(self.build_args), secrets=FrozenMapping(self.secrets))

    @property
    def digested(self) -> dict[str, str]:
        """What of it is the image's, besides the Dockerfile and its context."""
        chosen = {"target": self.target, "platform": self.platform}
        args = {f"build_args.{name}": value for name, value in self.build_args.items()}
        return {name: value for name, value in chosen.items() if value is not None} | args


@dataclass(frozen=True, slots=True, kw_only=True)
class AptInstall:
    """Debian packages, without what they recommend."""

    verb: ClassVar[str] = "apt_install"
    packages: tuple[str, ...]

    def __post_init__(self) -> None:
        _some(self.verb, self.packages, "a package")
        for package in self.packages:
            _matching(self.verb, PACKAGE, package, "a Debian package")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipOptions:
    """Where pip looks. An address with a password in it ends up in the image's history."""

    index_url: str | None = None
    extra_index_urls: Sequence[str] = ()
    pre: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.extra_index_urls, str):
            raise ConfigError("extra_index_urls takes a list, not one string")
        urls = tuple(self.extra_index_urls)
        for url in filter(None, (self.index_url, *urls)):
            _operand("index_url", url, "the address of an index")
        _set(self, extra_index_urls=urls)

    @property
    def words(self) -> tuple[str, ...]:
        """As pip takes them."""
        index = ("--index-url", self.index_url) if self.index_url else ()
        extra = [word for url in self.extra_index_urls for word in ("--extra-index-url", url)]
        return (*index, *extra, *(("--pre",) if self.pre else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PipInstall:
    """Requirements, as pip takes them."""

    verb: ClassVar[str] = "pip_install"
    packages: tuple[str, ...]
    options: PipOptions = field(default_factory=PipOptions)

    def __post_init__(self) -> None:
        _some(self.verb, self.packages, "a requirement")
        for package in self.packages:
            _operand(self.verb, package, "a requirement")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipInstallFromRequirements:
    """A requirements file, which may not name other files: they would not be there."""

    verb: ClassVar[str] = "pip_install_from_requirements"
    path: Path
    options: PipOptions = field(default_factory=PipOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipInstallFromPyproject:
    """The dependencies that a pyproject.toml lists; not the project itself."""

    verb: ClassVar[str] = "pip_install_from_pyproject"
    path: Path
    extras: Sequence[str] = ()
    groups: Sequence[str] = ()
    options: PipOptions = field(default_factory=PipOptions)

    def __post_init__(self) -> None:
        _set(
            self,
            extras=_names(self.verb, "extras", self.extras),
            groups=_names(self.verb, "groups", self.groups),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UvSync:
    """The environment that a folder's uv.lock describes; not the project itself."""

    verb: ClassVar[str] = "uv_sync"
    path: Path
    extras: Sequence[str] = ()
    groups: Sequence[str] = ()

    def __post_init__(self) -> None:
        _set(
            self,
            extras=_names(self.verb, "extras", self.extras),
            groups=_names(self.verb, "groups", self.groups),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCommands:
    """Shell commands, each run by ``/bin/sh -c`` in a layer of its own."""

    verb: ClassVar[str] = "run_commands"
    commands: tuple[str, ...]

    def __post_init__(self) -> None:
        _some(self.verb, self.commands, "a command")
        for command in self.commands:
            _text(self.verb, command, "a command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """Variables of every process; a value is taken literally."""

    verb: ClassVar[str] = "env"
    variables: Mapping[str, str]

    def __post_init__(self) -> None:
        _some(self.verb, self.variables, "a variable")
        for name, value in self.variables.items():
            _matching(self.verb, VARIABLE, name, "a variable's name")
            if not isinstance(value, str):
                raise ConfigError(f"env: the value of {name} has to be text, not {value!r}")
            if value:
                _line(self.verb, value, f"a value for {name} that a Dockerfile can hold")
        _set(self, variables=FrozenMapping(self.variables))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir:
    """Where processes start; made if it is not there."""

    verb: ClassVar[str] = "workdir"
    path: str

    def __post_init__(self) -> None:
        _remote(self.verb, self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLocalFile:
    """A file of this machine. A `remote` that ends in ``/`` is the directory it goes into."""

    verb: ClassVar[str] = "add_local_file"
    local: Path
    remote: str

    def __post_init__(self) -> None:
        _remote(self.verb, self.remote)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLocalDir:
    """What is in a directory of this machine, less what `ignore` matches (as in .dockerignore)."""

    verb: ClassVar[str] = "add_local_dir"
    local: Path
    remote: str
    ignore: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.ignore, str):
            raise ConfigError(f"add_local_dir: ignore takes a list, not {self.ignore!r}")
        for pattern in self.ignore:
            _text(self.verb, pattern, "a pattern")
        try:
            IgnoreRules(self.ignore)
        except ConfigError as error:
            raise ConfigError(f"add_local_dir: ignore: {error}") from None
        _set(self, ignore=tuple(self.ignore))
        _remote(self.verb, self.remote)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who runs what comes after, ``name`` or ``uid`` or either with ``:group``."""

    verb: ClassVar[str] = "user"
    name: str

    def __post_init__(self) -> None:
        _matching(self.verb, USER, self.name, "a user")


Step = (
    FromRegistry
    | FromDockerfile
    | AptInstall
    | PipInstall
    | PipInstallFromRequirements
    | PipInstallFromPyproject
    | UvSync
    | RunCommands
    | Env
    | Workdir
    | AddLocalFile
    | AddLocalDir
    | User
)


def _set(step: object, **fields: object) -> None:
    for name, value in fields.items():
        object.__setattr__(step, name, value)


def _text(verb: str, value: object, what: str) -> str:
    """Text that can be written to a file and passed to a process."""
    if isinstance(value, str) and value.strip() and "\0" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise ConfigError(f"{verb}: {value!r} is not {what}")


def _check_argument(name: str, value: object) -> None:
    if not isinstance(value, str) or value.strip():
        _text(FromDockerfile.verb, value, f"a value of the build argument {name}")


def _check_secret(name: str, value: str) -> None:
    """Raise `ConfigError`, without the value, for text that cannot be given to a build."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"from_dockerfile: the secret {name} is not valid Unicode") from None
    if "\0" in value or size > LONGEST_SECRET:
        raise ConfigError(
            f"from_dockerfile: the secret {name} holds a NUL character or has more than "
            f"{LONGEST_SECRET} bytes; give the path of a file"
        )


def _line(verb: str, value: object, what: str) -> str:
    if not isinstance(value, str) or "\n" in value:
        raise ConfigError(f"{verb}: {value!r} is not {what}")
    if value.strip():
        _text(verb, value, what)
    return value


def _matching(verb: str, pattern: re.Pattern[str], value: object, what: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ConfigError(f"{verb}: {value!r} is not {what}")


def _operand(verb: str, value: object, what: str) -> None:
    """A word that a program does not take for an option."""
    if _text(verb, value, what).startswith("-"):
        raise ConfigError(f"{verb}: {value!r} is an option, not {what}")


def _some(verb: str, values: Iterable[object], what: str) -> None:
    if not values:
        raise ConfigError(f"{verb}: give {what}")


def _names(verb: str, what: str, values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ConfigError(f"{verb}: {what} takes a list, not {values!r}")
    for value in values:
        _matching(verb, NAME, value, f"a name among {what}")
    return tuple(values)


def local_path(verb: str, path: str | os.PathLike[str]) -> Path:
    """A path of this machine, whatever the current directory is later on."""
    if not os.fspath(path):
        raise ConfigError(f"{verb}: {path!r} is not a path of this machine")
    return Path(path).expanduser().absolute()


def _remote(verb: str, path: str) -> None:
    _text(verb, _line(verb, path, "a path in an image"), "a path in an image")
    if path.startswith("~"):
        raise ConfigError(f"{verb}: {path!r}: an image has no home; give an absolute path")
