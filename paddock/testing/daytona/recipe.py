"""What a Dockerfile means to a server that builds nothing: an image's name and a build's log.

Knows nothing of sandboxes.
"""

from __future__ import annotations

import re

__all__ = ["BUILD_ERROR", "base_image", "build_lines"]

BUILD_ERROR = "ERROR: "  # how the last line of a build that failed begins


def base_image(dockerfile: str) -> str:
    """The image of the first FROM."""
    found = re.search(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", dockerfile, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else "scratch"


def build_lines(dockerfile: str) -> list[str]:
    """The log of building it; a step `RUN false` fails, every other one succeeds."""
    joined = re.sub(r"\\\n\s*", "", dockerfile)
    steps = [line for line in map(str.strip, joined.splitlines()) if line and line[0] != "#"]
    lines = []
    for number, step in enumerate(steps, 1):
        lines.append(f"Step {number}/{len(steps)} : {step}\n")
        if re.fullmatch(r"RUN\s+false", step):
            lines.append(
                f"{BUILD_ERROR}The command '/bin/sh -c false' returned a non-zero code: 1\n"
            )
            return lines
    return [*lines, "Successfully built\n"]
