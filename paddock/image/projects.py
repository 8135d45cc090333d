"""What requirements files and pyproject.toml files say, as far as an image needs it."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.image.steps import PipInstallFromPyproject, PipInstallFromRequirements

__all__ = ["check_requirements", "dependencies"]

ELSEWHERE = re.compile(
    r"\s*(-r|-c|-e|--requirement|--constraint|--editable|-f|--find-links|\.{0,2}/|file:|\.$)"
)
"""Begins a line of a requirements file that means other files of this machine."""
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^]]*)\])?")


def check_requirements(step: PipInstallFromRequirements) -> None:
    """`ConfigError` for a line that would mean something else, or nothing, in an image."""
    for number, line in enumerate(step.path.read_text().splitlines(), 1):
        if ELSEWHERE.match(line):
            raise ConfigError(
                f"{step.verb}: {step.path}:{number}: {line.strip()!r} needs other files; copy "
                "the folder with add_local_dir and install with run_commands"
            )


def dependencies(step: PipInstallFromPyproject) -> list[str]:
    """The requirements of the project, of its `extras` and of its `groups`, each once."""
    project = _Project(step)
    found = [*project.of_itself()]
    for extra in step.extras:
        found += project.of_extra(extra, ())
    for group in step.groups:
        found += project.of_group(group, ())
    if not found:
        raise ConfigError(f"{step.verb}: {step.path} lists no dependencies")
    return list(dict.fromkeys(found))


class _Project:
    """A pyproject.toml, with errors that say where and what."""

    def __init__(self, step: PipInstallFromPyproject) -> None:
        self._place = f"{step.verb}: {step.path}"
        try:
            content = tomllib.loads(step.path.read_text())
        except ValueError as error:
            raise ConfigError(f"{self._place}: {error}") from error
        project = self._table(content, "project")
        self._name = _normal(str(project.get("name", "")))
        self._own = self._texts(project.get("dependencies", []), "project.dependencies")
        self._extras = _by_name(self._table(project, "optional-dependencies"))
        self._groups = _by_name(self._table(content, "dependency-groups"))

    def of_itself(self) -> Iterator[str]:
        return self._resolved(self._own, ())

    def of_extra(self, name: str, within: tuple[str, ...]) -> Iterator[str]:
        listed = self._listed(self._extras, "extra", name, within)
        return self._resolved(self._texts(listed, f"extra {name}"), (*within, _normal(name)))

    def of_group(self, name: str, within: tuple[str, ...]) -> Iterator[str]:
        for item in self._listed(self._groups, "dependency group", name, within):
            if isinstance(item, dict) and isinstance(inner := item.get("include-group"), str):
                yield from self.of_group(inner, (*within, _normal(name)))
            else:
                yield from self._texts([item], f"dependency group {name}")

    def _resolved(self, requirements: list[str], within: tuple[str, ...]) -> Iterator[str]:
        """The requirements, with ``project[extra]`` replaced by the project's own extras."""
        for requirement in requirements:
            match = REQUIREMENT.match(requirement)
            if match and match[2] and _normal(match[1]) == self._name:
                for extra in match[2].split(","):
                    yield from self.of_extra(extra.strip(), within)
            else:
                yield requirement

    def _listed(
        self, lists: dict[str, Any], what: str, name: str, within: tuple[str, ...]
    ) -> list[object]:
        found = lists.get(_normal(name))
        if not isinstance(found, list):
            raise ConfigError(f"{self._place} has no {what} called {name!r}")
        if _normal(name) in within:
            raise ConfigError(f"{self._place}: the {what} {name!r} includes itself")
        return found

    def _table(self, table: dict[str, Any], name: str) -> dict[str, Any]:
        found = table.get(name, {})
        if not isinstance(found, dict):
            raise ConfigError(f"{self._place}: {name} is not a table")
        return found

    def _texts(self, values: object, what: str) -> list[str]:
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ConfigError(f"{self._place}: {what} is not a list of requirements")
        return values


def _by_name(table: dict[str, Any]) -> dict[str, Any]:
    return {_normal(name): value for name, value in table.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
