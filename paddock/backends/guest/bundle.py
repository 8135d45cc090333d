"""The guest as text, for a Python that has none of our files: sent down its stdin, then run.

A container's first process is started with `BOOT`, which reads exactly so many bytes and
runs them; what comes after is the wire. So a container needs no file of ours, no mount
and no copy: its first process and its stream are enough.
"""

from __future__ import annotations

import functools
from pathlib import Path

from paddock.backends.guest import inside

__all__ = ["boot", "bundle"]

BOOT = """\
import os
text = b""
while len(text) < {size}:
    piece = os.read(0, {size} - len(text))
    if not piece:
        os._exit(0)
    text += piece
exec(compile(text, "<guest>", "exec"))
"""

LOADER = """\
import sys
from _frozen_importlib_external import PathFinder

for name in ("ctypes", "json", "re"):  # what the guest imports later; some images have only a part
    if PathFinder.find_spec(name) is None:
        raise ModuleNotFoundError("No module named " + repr(name))

SOURCES = {sources!r}


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in SOURCES:
            return None
        spec = type(sys.__spec__)(name, Finder, is_package=name == "inside")
        return spec

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        text = SOURCES[module.__name__]
        exec(compile(text, "<" + module.__name__ + ">", "exec"), module.__dict__)


sys.meta_path.insert(0, Finder)
from inside.loop import main

main()
"""


@functools.cache
def bundle() -> bytes:
    """The guest's modules and what imports them by name, each compiled only when it is used."""
    folder = Path(inside.__file__).parent
    sources = {}
    for path in sorted(folder.glob("*.py")):
        name = "inside" if path.stem == "__init__" else f"inside.{path.stem}"
        sources[name] = path.read_text()
    return LOADER.format(sources=sources).encode()


def boot() -> str:
    """The program for ``python3 -c`` that waits for the bundle."""
    return BOOT.format(size=len(bundle()))
