"""Runs code for `interpreter`, one order after the other, with one set of names. Runs inside.

Orders come as lines of JSON on stdin, what the code does goes as such lines to stdout.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback


class _Told(io.TextIOBase):
    """A stream of the code: each piece that it writes is a message."""

    def __init__(self, kind: str, wire: int) -> None:
        self._kind = kind
        self._wire = wire

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            tell(self._wire, {"type": self._kind, "text": text})
        return len(text)


def tell(wire: int, message: dict[str, str]) -> None:
    line = (json.dumps(message) + "\n").encode()
    while line:
        line = line[os.write(wire, line) :]


def run(code: str, envs: dict[str, str], names: dict[str, object], wire: int) -> None:
    """Run `code` with `names`, which it may change, and with some more variables."""
    before = dict(os.environ)
    os.environ.update(envs)
    try:
        exec(compile(code, "<stdin>", "exec"), names)
    except BaseException as error:  # of whatever kind, the caller is told
        text = traceback.format_exc()
        tell(
            wire,
            {
                "type": "error",
                "name": type(error).__name__,
                "value": str(error),
                "traceback": text,
            },
        )
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    wire = os.dup(1)
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.stdout, sys.stderr = _Told("stdout", wire), _Told("stderr", wire)
    names: dict[str, object] = {"__name__": "__main__"}
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # it came too late to stop anything
            line = orders.readline()
            if not line:
                return
            order = json.loads(line)
            run(order["code"], order.get("envs") or {}, names, wire)
            tell(wire, {"type": "control", "text": "completed"})


if __name__ == "__main__":
    main()
