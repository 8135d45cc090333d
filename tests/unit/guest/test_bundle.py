"""The guest reaches a container as code if its Python reads ours, and else as text."""

from __future__ import annotations

import marshal
import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

import paddock
from paddock.backends.guest.bundle import boot, bundle, sources


def with_magic(magic: bytes, end: str) -> bytes:
    """The bundle of a host whose Python has this `magic`; it does `end` instead of serving."""
    loader, found, codes, texts = marshal.loads(bundle())
    assert found == MAGIC_NUMBER
    return marshal.dumps((loader.replace("\nmain()\n", f"\n{end}\n"), magic, codes, texts), 4)


@pytest.mark.parametrize("magic", [MAGIC_NUMBER, b"\x00\x00\r\n"], ids=["our Python", "another"])
def test_a_guest_starts_in_this_python_and_in_another(magic: bytes) -> None:
    text = with_magic(magic, "print(main.__code__.co_filename, type(MODULES['inside.jobs'][1]))")
    python = [sys.executable, "-I", "-S", "-B", "-c", boot(text)]
    told = subprocess.run(python, input=text, stdout=subprocess.PIPE, check=True).stdout.decode()
    kind = bytes if magic == MAGIC_NUMBER else str
    assert told == f"<inside.loop> {kind}\n"


def test_a_guest_does_not_tell_where_the_host_has_its_files() -> None:
    folder = str(Path(paddock.__file__).parent).encode()
    assert folder not in bundle()
    assert folder not in sources()
