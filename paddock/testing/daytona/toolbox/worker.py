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

NAME = "<string>"
"""Of the file that code is said to be in; tracebacks call it ``<stdin>``."""
LONGEST = 1024
"""Characters that are kept back until a line ends."""


class _Told(io.TextIOBase):
    """A stream of the code: each line that it writes is a message, or a long piece of one."""

    def __init__(self, kind: str, wire: int) -> None:
        self._kind = kind
        self._wire = wire
        self._kept = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._kept += text
        if "\n" in text or len(self._kept) >= LONGEST:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self._kept = self._kept, ""
        if text:
            tell(self._wire, {"type": self._kind, "text": text})


def tell(wire: int, message: dict[str, str]) -> None:
    line = (json.dumps(message) + "\n").encode()
    while line:
        line = line[os.write(wire, line) :]


def run(code: str, envs: dict[str, str], names: dict[str, object], wire: int) -> str:
    """Run `code` with `names`, which it may change, and with some more variables.

    Return how it ended. An exit of the code is an end like another.
    """
    before = dict(os.environ)
    os.environ.update(envs)
    failure = None
    try:
        exec(compile(code, NAME, "exec"), names)
    except KeyboardInterrupt:
        return "interrupted"
    except SystemExit:
        pass
    except BaseException as error:  # of whatever kind, report it to the caller
        failure = error
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.stdout.flush()
        sys.stderr.flush()
    if failure is not None:
        told = {"name": type(failure).__name__, "value": str(failure), "traceback": _shown(failure)}
        tell(wire, {"type": "error", **told})
    return "completed"


def _shown(error: BaseException) -> str:
    """Return the traceback, of the code alone."""
    last = f"{type(error).__name__}: {error}\n"
    lines = [
        f'  File "<stdin>", line {frame.lineno}\n'
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == NAME
    ]
    return "".join(["Traceback (most recent call last):\n", *lines, last] if lines else [last])


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
            end = run(order["code"], order.get("envs") or {}, names, wire)
            tell(wire, {"type": "control", "text": end})


if __name__ == "__main__":
    main()
