"""The configuration of a batch as plain data: frozen in run.json, compared when it is resumed."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.agents.recipes import write_recipe
from paddock.runtime.fleet.work import describe_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.backends.base import Backend
    from paddock.runtime.fleet.attempts import Plan

__all__ = ["circumstances", "differences", "freeze"]

GIT = 5.0
"""Seconds for git to name the commit: it reads two files."""


def freeze(plan: Plan) -> dict[str, Any]:
    """Return what decides what an attempt does. Secrets are not in it."""
    return {
        "backend": _recipe(plan.backend),
        "work": describe_work(plan.work),
        "verify": describe_work(plan.verify),
        "artifacts": list(plan.artifacts),
        "timeout": plan.timeout,
        "verify_share": plan.verify_share,
    }


def _recipe(backend: Backend) -> Any:
    try:
        return write_recipe(backend)
    except ConfigError:  # one that cannot be said in a file is compared as it is shown
        return backend.redactor.text(repr(backend))


def circumstances() -> dict[str, Any]:
    """Return what was the case when a batch began, to look up later. Blocks."""
    return {
        "paddock": version("paddock"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "directory": str(Path.cwd()),
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=GIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def differences(before: Any, after: Any) -> list[str]:
    """Return the lines of a diff of two values of JSON; those removed begin with ``-``."""
    old, new = (
        dict(_flat(json.loads(json.dumps(before)))),
        dict(_flat(json.loads(json.dumps(after)))),
    )
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            lines += [f"- {name}: {old[name]}"] if name in old else []
            lines += [f"+ {name}: {new[name]}"] if name in new else []
    return lines


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for key, each in value.items():
                yield from _flat(each, f"{name}.{key}".lstrip("."))
        case list():
            for number, each in enumerate(value):
                yield from _flat(each, f"{name}[{number}]")
        case _:
            yield name, json.dumps(value, ensure_ascii=False)
