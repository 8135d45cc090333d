"""The guest for a Python that has none of our files: sent down its stdin, then run.

A container's first process is started with `BOOT`, which reads exactly so many bytes and
runs them; what comes after is the wire. So a container needs no file of ours, no mount
and no copy: its first process and its stream are enough.
"""

from __future__ import annotations

import functools
import marshal
from importlib.util import MAGIC_NUMBER

from paddock.backends.guest import precompiled

__all__ = ["boot", "bundle", "sources"]

BOOT = """\
import marshal, os
text = b""
while len(text) < {size}:
    piece = os.read(0, {size} - len(text))
    if not piece:
        os._exit(0)
    text += piece
loader, MAGIC, CODES, SOURCES = marshal.loads(text)
exec(compile(loader, "<guest>", "exec"))
"""

LOADER = f"""\
from _frozen_importlib_external import MAGIC_NUMBER, PathFinder

for name in ("ctypes", "json", "re"):  # what the guest imports later; some images have only a part
    if PathFinder.find_spec(name) is None:
        raise ModuleNotFoundError("No module named " + repr(name))
MODULES, EXTENSIONS = CODES if MAGIC == MAGIC_NUMBER else SOURCES, {{}}
{precompiled.LOADER}
from inside.loop import main

main()
"""
MARSHAL_VERSION = 4
"""What all versions of Python since 3.4 read."""


@functools.cache
def bundle() -> bytes:
    """The guest's modules and what imports them by name, each only when it is used.

    They are there as code, for a Python that reads the code of ours, and else as text, which
    takes each container 30 ms to compile.
    """
    return _packed(precompiled.guest_codes())


@functools.cache
def sources() -> bytes:
    """The same, half as long, for where sending it takes longer than compiling it."""
    return _packed({})


def _packed(codes: precompiled.Modules) -> bytes:
    texts = {
        name: (path.stem == "__init__", path.read_text())
        for name, path in precompiled.guest_files().items()
    }
    magic = MAGIC_NUMBER if codes else b""
    return marshal.dumps((LOADER, magic, codes, texts), MARSHAL_VERSION)


def boot(text: bytes) -> str:
    """The program for ``python3 -c`` that waits for a bundle."""
    return BOOT.format(size=len(text))
