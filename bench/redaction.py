"""What it costs to look for secrets, beside `bytes.replace` as the floor.

Source text without a secret, with one in each 100 KB, and text that is made to be slow;
with 1 and with 20 secrets. ``pieces`` is the same through a stream, 4 KiB at a time.
MB of text a second of CPU, the best of several runs; and milliseconds until a new redactor
has looked at its first byte.

    python bench/redaction.py [--size MB]
"""

from __future__ import annotations

import argparse
import random
import string
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 3
PIECE = 4096
LETTERS = string.ascii_letters + string.digits + "+/-_"


def main() -> None:
    parser = argparse.ArgumentParser(description="MB/s of the redactor")
    parser.add_argument("--size", type=int, default=10, metavar="MB")
    source = source_text(parser.parse_args().size * 1_000_000)
    for count in (1, 20):
        measure(count, source)


def measure(count: int, source: bytes) -> None:
    chance = random.Random(1)
    secrets = {f"S{n}": "".join(chance.choices(LETTERS, k=40)) for n in range(count)}
    first = secrets["S0"].encode()
    redactor = Redactor(secrets)
    print(f"{count} secrets, ready in {milliseconds(lambda: redactor.data(b'x')):.1f} ms")
    some, slow = planted(source, first), first[:-1] * (1_000_000 // len(first))
    show("bytes.replace", source, lambda: source.replace(first, b"[secret S0]"))
    show("none", source, lambda: redactor.data(source))
    show("some", some, lambda: redactor.data(some))
    show("slow", slow, lambda: redactor.data(slow))
    show("none, pieces", source, lambda: in_pieces(redactor, source))


def source_text(size: int) -> bytes:
    """So many bytes of the standard library's own files, over and over."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    whole = b"".join(path.read_bytes() for path in files)
    return (whole * (size // len(whole) + 1))[:size]


def planted(text: bytes, secret: bytes) -> bytes:
    return secret.join(text[place : place + 100_000] for place in range(0, len(text), 100_000))


def in_pieces(redactor: Redactor, text: bytes) -> None:
    stream = redactor.stream()
    for place in range(0, len(text), PIECE):
        stream.feed(text[place : place + PIECE])
    stream.close()


def show(name: str, text: bytes, work: Callable[[], object]) -> None:
    best = min(milliseconds(work) for _ in range(RUNS))
    print(f"  {name:14} {len(text) / 1000 / best:9.0f} MB/s")


def milliseconds(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1000


if __name__ == "__main__":
    main()
