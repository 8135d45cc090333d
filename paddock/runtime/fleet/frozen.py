"""The configuration of a batch as plain data: frozen in run.json, compared when it is resumed."""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._logs import get_logger
from paddock.errors import ConfigError, PaddockError
from paddock.runtime.agents.recipes import write_recipe
from paddock.runtime.fleet.work import describe_work

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paddock.backends.base import Backend
    from paddock.runtime.fleet.attempts import Plan

__all__ = ["circumstances", "comparable", "differences", "freeze", "image_digest"]

LOOK_UP = 20.0
"""Seconds for an engine to tell of an image: it takes some milliseconds, on a busy one seconds."""

_log = get_logger(__name__)

GIT = 5.0
"""Seconds for git to name the commit: it reads two files."""


def freeze(plan: Plan, image: str | None) -> dict[str, Any]:
    """Return what decides what an attempt does. Secrets are not in it.

    `image` is the digest of the recipe's image, if it is known.
    """
    return {
        "image": image,
        "backend": _recipe(plan.backend),
        "work": describe_work(plan.work),
        "verify": describe_work(plan.verify),
        "artifacts": list(plan.artifacts),
        "artifact_limit": plan.artifact_limit,
        "timeout": plan.timeout,
        "verify_share": plan.verify_share,
    }


def _recipe(backend: Backend) -> Any:
    try:
        return write_recipe(backend)
    except ConfigError:  # one that cannot be said in a file is compared as it is shown
        return backend.redactor.text(repr(backend))


async def image_digest(backend: Backend, *, is_made: bool) -> str | None:
    """Return the digest of the recipe's image, None if it has none or it cannot be found out.

    An image that is to be built has one once it `is_made`.
    """
    image = getattr(backend, "image", None)
    if image is None:
        return None
    try:
        async with asyncio.timeout(LOOK_UP):
            images = backend.engines()[0].images
            if not isinstance(image, str):
                image = await images.ensure(image) if is_made else None
            return None if image is None else await images.identity(image)
    except (PaddockError, OSError) as error:  # it says so itself when it makes a sandbox
        _log.debug("the digest of image %r is not known: %s", image, error)
        return None


def comparable(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two configurations without the digest of the image, unless both have one."""
    old, new = dict(before), dict(after)
    if old.get("image") is None or new.get("image") is None:
        old.pop("image", None)
        new.pop("image", None)
    return old, new


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
