"""Which telemetry is kept, where, and for which tenant: `ObservabilityConfig`, and its YAML file.

Knows how to find and to read the file. It opens no database and no connection.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from paddock._frozen import FrozenMapping
from paddock._places import config_directory
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from paddock.runtime.telemetry._document import Document

__all__ = [
    "DEFAULT_ENDPOINT",
    "Capture",
    "ObservabilityConfig",
    "OtlpBackend",
    "SqliteBackend",
]

FILE_VARIABLE = "PADDOCK_OBSERVABILITY_CONFIG"
TEAM_VARIABLE = "PADDOCK_TEAM_ID"
PROJECT_VARIABLE = "PADDOCK_PROJECT_ID"
FILE_NAME = "observability.yaml"
DATABASE_NAME = "telemetry.db"
DEFAULT_ENDPOINT = "http://localhost:4317"

GRPC_PORT, HTTP_PORT = 4317, 4318
"""Where collectors listen for OTLP. We speak it over HTTP, whichever of the two is named."""


def _config_directory() -> Path:
    return config_directory()


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteBackend:
    """Telemetry is kept in a database file of this machine."""

    path: Path = field(default_factory=lambda: _config_directory() / DATABASE_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpBackend:
    """Telemetry goes to an OpenTelemetry collector, by OTLP over HTTP.

    `headers` go with each request, and into no repr: they may be keys. Without
    `insecure` the endpoint has to be https. `set_global` makes our providers those of the
    whole process, too.
    """

    endpoint: str = DEFAULT_ENDPOINT
    insecure: bool = True
    headers: Mapping[str, str] = field(default_factory=FrozenMapping, repr=False)
    set_global: bool = False

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.endpoint)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known:
            raise ConfigError(f"{self.endpoint!r} is no http:// or https:// address")
        if not self.insecure and not self.endpoint.startswith("https://"):
            raise ConfigError(
                f"{self.endpoint} is not encrypted; give an https endpoint or set insecure"
            )

    def url(self, signal: str) -> str:
        """Where one signal ("traces", "metrics") goes."""
        parts = urlsplit(self.endpoint)
        base = self.endpoint.rstrip("/")
        if parts.port == GRPC_PORT:
            place = parts.netloc.removesuffix(str(GRPC_PORT)) + str(HTTP_PORT)
            base = parts._replace(netloc=place).geturl().rstrip("/")
        return f"{base}/v1/{signal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What is kept. `traces`: what happened, step by step. `metrics`: sums of it.
    `tool_arguments` and `tool_results`: what tools were given, and what they gave."""

    traces: bool = True
    metrics: bool = True
    tool_arguments: bool = True
    tool_results: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservabilityConfig:
    """Telemetry as a value. It is kept only for a tenant: a `team_id` and a `project_id`.

    `path` is the file that it was read from, where there was one.
    """

    enabled: bool = True
    team_id: str | None = None
    project_id: str | None = None
    backend: SqliteBackend | OtlpBackend = field(default_factory=SqliteBackend)
    capture: Capture = Capture()
    path: Path | None = None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a YAML file; all may stand below ``observability:``, or at the top.

        Raises `FileNotFoundError`, and `ConfigError` that names each key that is wrong.
        """
        found = Path(path).expanduser()
        if not found.is_file():
            raise FileNotFoundError(f"Observability config file not found: {path}")
        return cls._from_document(_read(found), found)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        team_id: str | None = None,
        project_id: str | None = None,
    ) -> Self:
        """What holds: the file at `path` before the arguments, these before the environment.

        The environment has PADDOCK_TEAM_ID and PADDOCK_PROJECT_ID, and may name a file in
        PADDOCK_OBSERVABILITY_CONFIG; the user's observability.yaml comes after that, and
        then the defaults. One file is read, the first that there is. A file that was named
        has to be there. Raises as `from_file`.
        """
        named = path or os.environ.get(FILE_VARIABLE)
        own = _config_directory() / FILE_NAME
        file = named or (own if own.is_file() else None)
        config = cls() if file is None else cls.from_file(file)
        teams = [team_id, os.environ.get(TEAM_VARIABLE)]
        projects = [project_id, os.environ.get(PROJECT_VARIABLE)]
        place = 0 if path else len(teams)
        teams.insert(place, config.team_id)
        projects.insert(place, config.project_id)
        return replace(config, team_id=_first(teams), project_id=_first(projects))

    @classmethod
    def _from_document(cls, document: Document, path: Path) -> Self:
        backend: SqliteBackend | OtlpBackend
        if document.backend.type == "sqlite":
            given = document.backend.sqlite.path
            backend = SqliteBackend(path=Path(given).expanduser()) if given else SqliteBackend()
        else:
            otlp = document.backend.otlp
            try:
                backend = OtlpBackend(
                    endpoint=otlp.endpoint or DEFAULT_ENDPOINT,
                    insecure=otlp.insecure,
                    headers=FrozenMapping(otlp.headers),
                    set_global=otlp.set_global,
                )
            except ConfigError as error:
                raise ConfigError(f"{path}: backend.otlp.endpoint: {error}") from None
        return cls(
            enabled=document.enabled,
            team_id=document.tenant.team_id,
            project_id=document.tenant.project_id,
            backend=backend,
            capture=Capture(**document.capture.model_dump()),
            path=path,
        )


def _first(values: list[str | None]) -> str | None:
    return next((value for value in values if value), None)


def _read(path: Path) -> Document:
    from pydantic import ValidationError

    from paddock.runtime.telemetry._document import Document

    try:
        return Document.model_validate(_mapping(path))
    except ValidationError as error:
        told = [_sentence(each) for each in error.errors()]
        raise ConfigError("\n".join(f"{path}: {line}" for line in told)) from None


def _mapping(path: Path) -> dict[str, Any]:
    from paddock.runtime.core.yamltext import read_text, read_yaml

    document = read_yaml(read_text(path), source=str(path)).data
    if isinstance(document, dict) and "observability" in document:
        document = document["observability"]
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: an observability file holds a mapping")
    return {name: value for name, value in document.items() if value is not None}


def _sentence(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such key{_suggestion(key)}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"


def _suggestion(key: str) -> str:
    """The nearest key that there is, wherever it belongs; or all that may stand there."""
    from paddock.runtime.telemetry._document import KEYS

    section, _, wrong = key.rpartition(".")
    names = {known.rpartition(".")[2]: known for known in KEYS}
    if close := difflib.get_close_matches(wrong.lower().replace("-", "_"), names, n=1):
        return f"; did you mean {names[close[0]]}?"
    here = [known.rpartition(".")[2] for known in KEYS if known.rpartition(".")[0] == section]
    return f"; there are: {', '.join(here)}"
