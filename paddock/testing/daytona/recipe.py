"""What a Dockerfile means to a server that builds nothing: an image's name and a build's log.

Knows nothing of sandboxes.
"""

from __future__ import annotations

import re
import shlex
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BUILD_ERROR", "base_image", "build_lines", "image_variables"]

BUILD_ERROR = "ERROR: "  # how the last line of a build that failed begins


def base_image(dockerfile: str) -> str:
    """The image of the first FROM."""
    found = re.search(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", dockerfile, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else "scratch"


def build_lines(dockerfile: str) -> list[str]:
    """The log of building it; a step `RUN false` fails, every other one succeeds."""
    steps = _steps(dockerfile)
    lines = []
    for number, step in enumerate(steps, 1):
        lines.append(f"Step {number}/{len(steps)} : {step}\n")
        if re.fullmatch(r"RUN\s+false", step):
            lines.append(
                f"{BUILD_ERROR}The command '/bin/sh -c false' returned a non-zero code: 1\n"
            )
            return lines
    return [*lines, "Successfully built\n"]


def image_variables(dockerfile: str, base: Mapping[str, str]) -> dict[str, str]:
    """The variables that its `ENV` steps set, over those of `base`."""
    found: dict[str, str] = {}
    for step in _steps(dockerfile):
        if not re.match(r"ENV\s", step, re.IGNORECASE):
            continue
        text = step[4:].strip()
        if "=" not in text.split(maxsplit=1)[0]:
            text = shlex.join(["=".join(text.split(maxsplit=1))])
        for pair in shlex.split(text):
            name, _, value = pair.partition("=")
            literal = value.replace("\\$", "$$")  # as a Dockerfile escapes it
            found[name] = Template(literal).safe_substitute({**base, **found})
    return found


def _steps(dockerfile: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", dockerfile)
    return [line for line in map(str.strip, joined.splitlines()) if line and line[0] != "#"]
