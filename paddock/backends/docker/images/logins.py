"""Logins at registries, found as the docker CLI finds them.

Only what a build or pull names is looked for: other registries' credential helpers, which may
open a keychain or take seconds, are not asked.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.backends.docker.engine.endpoint import read_settings, settings_folder
from paddock.backends.docker.images.programs import ask
from paddock.errors import ConfigError
from paddock.image.settings import RegistryLogin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Logins", "find_logins", "registry_of"]

HUB = "docker.io"
HUB_SERVER = "https://index.docker.io/v1/"
"""What the docker CLI and engines call Docker's own registry in logins."""
HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", HUB})
HELPER_NAME = re.compile(r"[A-Za-z0-9._-]+")
HELPER_TIMEOUT = 30.0
"""Seconds for a credential helper: those of clouds ask a service first, which takes some 3 s."""
LONGEST_REASON = 200
"""Characters of what a helper says of its failure."""
NOT_FOUND = "credentials not found"
"""What a helper says that has no login for a registry."""
TOKEN_USER = "<token>"
"""The user's name in a helper's answer whose secret is an identity token."""

_log = get_logger(__name__)


class HelperFailed(Exception):
    """A credential helper did not say whether it has a login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A login, and where it was found."""

    login: RegistryLogin
    origin: str


@dataclass(frozen=True, slots=True)
class Logins:
    """What was found for the registries of a build: None for one without a login."""

    by_registry: Mapping[str, Found | None]

    def of(self, registry: str) -> dict[str, str]:
        """Return the login at `registry` as engines take it, empty without one."""
        found = self.by_registry.get(registry)
        return {} if found is None else _engine_form(found.login)

    def pull_headers(self, registry: str) -> dict[str, str]:
        """Return what a request to pull from `registry` says."""
        login = self.of(registry)
        return {"X-Registry-Auth": _header(login)} if login else {}

    def build_headers(self) -> dict[str, str]:
        """Return what a request to the classic builder says."""
        known = {
            _server(registry): _engine_form(found.login)
            for registry, found in self.by_registry.items()
            if found is not None
        }
        return {"X-Registry-Config": _header(known)} if known else {}

    def config(self) -> dict[str, Any]:
        """Return the ``auths`` of a config.json with these logins and no others."""
        return {
            _server(registry): _file_form(found.login)
            for registry, found in self.by_registry.items()
            if found is not None
        }

    def __str__(self) -> str:
        """Name the registries that are asked, and the users."""
        return "; ".join(_told(*each) for each in sorted(self.by_registry.items()))


def registry_of(image: str) -> str:
    """Return the registry that an engine pulls `image` from."""
    first, slash, _ = image.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return _hostname(first)
    return HUB


async def find_logins(images: Iterable[str], given: Mapping[str, RegistryLogin]) -> Logins:
    """Find the logins for the registries of `images`: those `given`, then the docker CLI's.

    A helper that fails is a warning in the log, and no login.
    """
    own = {_hostname(name): Found(login=login, origin="auth=") for name, login in given.items()}
    config = await asyncio.to_thread(_config)
    registries = sorted({registry_of(image) for image in images})
    found = [own.get(name) or await _configured(config, name) for name in registries]
    return Logins(dict(zip(registries, found, strict=True)))


async def _configured(config: Mapping[str, Any], registry: str) -> Found | None:
    helpers = {_hostname(name): helper for name, helper in _entries(config, "credHelpers").items()}
    helper = helpers.get(registry) or config.get("credsStore")
    if helper:
        try:
            found = await _from_helper(str(helper), registry)
        except HelperFailed as error:
            _log.warning("no login for %s: docker-credential-%s: %s", registry, helper, error)
        else:
            if found is not None:
                return found
    for name, entry in _entries(config, "auths").items():
        if _hostname(name) == registry and (login := _from_entry(entry)) is not None:
            return Found(login=login, origin="config.json")
    return None


async def _from_helper(helper: str, registry: str) -> Found | None:
    """Return what a credential helper knows of a registry. Raise `HelperFailed`."""
    name = f"docker-credential-{helper}"
    program = shutil.which(name) if HELPER_NAME.fullmatch(helper) else None
    if program is None:
        raise HelperFailed("it is not on PATH")
    try:
        code, output = await ask(program, "get", question=_server(registry), timeout=HELPER_TIMEOUT)
    except TimeoutError:
        raise HelperFailed(f"it did not answer within {HELPER_TIMEOUT:g} s") from None
    except OSError as error:
        raise HelperFailed(str(error)) from error
    if code and NOT_FOUND in output:
        return None
    if code:
        first = "".join(output.strip().splitlines()[:1])
        said = "".join(filter(str.isprintable, first))[:LONGEST_REASON]
        raise HelperFailed(f"exit code {code}: {said}")
    try:
        answer = json.loads(output)
        user, secret = _text(answer["Username"]), _text(answer["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HelperFailed("its answer is not a login") from None
    if user == TOKEN_USER:
        return Found(login=RegistryLogin(token=secret), origin=name)
    return Found(login=RegistryLogin(username=user, password=secret), origin=name)


def _text(value: Any) -> str:
    """Return a part of an answer. Raise ValueError for what is no text that can be sent."""
    if not isinstance(value, str) or not value:
        raise ValueError
    value.encode()
    return value


def _config() -> Mapping[str, Any]:
    return read_settings(settings_folder(os.environ.get("DOCKER_CONFIG")) / "config.json") or {}


def _entries(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return what a config.json has by registry under `key`. Raise `ConfigError` for no object."""
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"the docker CLI's config.json: {key!r} is not an object")
    return found


def _from_entry(entry: Any) -> RegistryLogin | None:
    """Return the login of an entry of ``auths``; None for an empty one, whose helper has it."""
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return RegistryLogin(token=str(token))
    user, password = entry.get("username"), entry.get("password")
    if auth := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(auth).decode().rstrip("\0").partition(":")
        except (ValueError, TypeError):
            return None
    return RegistryLogin(username=str(user), password=str(password or "")) if user else None


def _hostname(name: str) -> str:
    host = re.sub(r"^https?://", "", name).partition("/")[0]
    return HUB if host in HUB_NAMES else host


def _server(registry: str) -> str:
    return HUB_SERVER if registry == HUB else registry


def _engine_form(login: RegistryLogin) -> dict[str, str]:
    if login.token is not None:
        return {"identitytoken": login.token}
    return {"username": login.username or "", "password": login.password or ""}


def _file_form(login: RegistryLogin) -> dict[str, str]:
    if login.token is not None:
        return {"auth": base64.b64encode(f"{TOKEN_USER}:".encode()).decode()} | _engine_form(login)
    pair = f"{login.username}:{login.password}".encode()
    return {"auth": base64.b64encode(pair).decode()}


def _header(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _told(registry: str, found: Found | None) -> str:
    if found is None:
        return f"the registry {registry} was asked without a login (`docker login`, or auth=)"
    who = "with a token" if found.login.token is not None else f"as {found.login.username!r}"
    return f"the registry {registry} was asked {who} ({found.origin})"
