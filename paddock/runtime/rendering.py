"""Rendering a Jinja2 template that may be hostile, or only wrong.

Jinja's sandbox keeps a template from reaching Python. It does not keep it from never
ending: one multiplication may take all memory and one loop all time, and neither can be
stopped in a thread. So a process of its own renders it, which is killed at the deadline,
and whose memory, time and output the kernel bounds. Values are text, and never templates.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_OUTPUT", "render"]

MAX_OUTPUT = 1024 * 1024
"""Characters of a rendered text: no model takes a longer prompt."""
DEADLINE = 20.0
"""Seconds until the process is killed; it takes 0.1, and long where fifty start at once."""
BOUNDS = {
    "RLIMIT_CPU": 3,  # seconds; a prompt takes 0.1, which is importing Jinja
    "RLIMIT_AS": 512 * 1024 * 1024,  # bytes; a prompt takes 50 MiB
    "RLIMIT_FSIZE": 16 * MAX_OUTPUT,  # bytes of the answer, in which a character may take 12
    "RLIMIT_CORE": 0,
}
NEEDED = frozenset({"LD_LIBRARY_PATH"})
"""Variables without which some builds of Python do not start. A template gets none."""
CHILD = Path(__file__).with_name("rendering_child.py")

_MARKS = re.compile(r"\{\{|\{%|\{#")
_NEWLINE = re.compile(r"\r\n|\r")


def render(body: str, values: Mapping[str, str], *, source: str, first_line: int = 1) -> str:
    """The text of the template `body`, which begins on `first_line` of `source`.

    Blocks until it is rendered. Raises `ConfigError` with the line for a template that is
    not valid, that asks for what it is not given or may not have, or that does not end.
    """
    if not _MARKS.search(body):  # nothing to render: the text as Jinja would leave it
        return _NEWLINE.sub("\n", body).removesuffix("\n")
    try:
        answer = json.loads(_answer(body, tuple(sorted(values.items()))))
    except _Stopped as stopped:
        raise ConfigError(f"{source}: {stopped}") from None
    if "text" in answer:
        return str(answer["text"])
    place = f", line {answer['line'] + first_line - 1}" if answer.get("line") else ""
    raise ConfigError(f"{source}{place}: {answer['error']}")


class _Stopped(Exception):
    """The process gave no answer: it was killed."""


@functools.lru_cache(maxsize=64)
def _answer(body: str, values: tuple[tuple[str, str], ...]) -> bytes:
    """What a process that renders answers; always the same to the same, so remembered."""
    request = {
        "body": body,
        "values": dict(values),
        "max_output": MAX_OUTPUT,
        "bounds": BOUNDS,
        "path": [place for place in sys.path if place],
    }
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(CHILD)],
                input=json.dumps(request).encode(),
                stdout=output,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name in NEEDED},
                timeout=DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _Stopped(f"it was not rendered within {DEADLINE:g} s") from None
        if done.returncode != 0:
            raise _Stopped("rendering it took too much time or memory, and was stopped")
        output.seek(0)
        return output.read()
