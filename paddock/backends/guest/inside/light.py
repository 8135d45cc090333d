"""What the guest needs of `contextlib`, `ctypes`, `json`, `signal`, `socket` and others, cheaply.

Importing those takes longer than starting Python: they load `re`, `enum`, `functools` and
`collections`. The C modules below them do all that is needed here. What only some guests need,
such as a search, imports the real modules when it runs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from collections import deque
    from contextlib import contextmanager, suppress
    from heapq import heappop, heappush
    from typing import Any
else:
    try:
        import _signal as signal
        import _socket as socket
        from _collections import deque
        from _heapq import heappop, heappush
    except ImportError:  # an interpreter other than CPython
        import signal
        import socket
        from collections import deque
        from heapq import heappop, heappush

    class suppress:  # noqa: N801  # the name of what it stands for
        """`contextlib.suppress`."""

        def __init__(self, *errors: type[BaseException]) -> None:
            self._errors = errors

        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
            return kind is not None and issubclass(kind, self._errors)

    class Steps:
        """A generator as the body of a ``with``."""

        def __init__(self, steps: Any) -> None:
            self._steps = steps

        def __enter__(self) -> Any:
            return next(self._steps)

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            if error is None:
                next(self._steps, None)
                return False
            try:
                self._steps.throw(error)
            except StopIteration:
                return True
            except BaseException as raised:
                if raised is error:
                    return False
                raise
            raise RuntimeError("it continued after an error")

    def contextmanager(function: Any) -> Any:
        """`contextlib.contextmanager`."""
        return lambda *args, **named: Steps(function(*args, **named))


__all__ = [
    "accepted",
    "contextmanager",
    "deque",
    "dumps",
    "heappop",
    "heappush",
    "loads",
    "signal",
    "socket",
    "suppress",
]


def accepted(listener: socket.socket) -> socket.socket:
    """The next connection of a listener; `OSError` if there is none."""
    if hasattr(listener, "accept"):
        return listener.accept()[0]
    return socket.socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]  # the C module's


# -------------------------------------------------------------------------------- JSON

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:
    import json

    def dumps(value: Any) -> str:
        """`value` as JSON without spaces, in ASCII."""
        return json.dumps(value, separators=(",", ":"))

    def loads(text: bytes) -> Any:
        """The value of a JSON text; `ValueError` if it is none, or `RecursionError`."""
        return json.loads(text)

else:

    class Context:
        """How `make_scanner` reads: as `json.loads` does."""

        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float  # NaN, Infinity, -Infinity

    scan = make_scanner(Context)  # type: ignore[arg-type]  # any object with these attributes

    def refused(value: object) -> None:
        raise TypeError(f"a {type(value).__name__} cannot be sent as JSON")

    def dumps(value: Any) -> str:
        """`value` as JSON without spaces, in ASCII."""
        encode = make_encoder(
            {}, refused, encode_basestring_ascii, None, ":", ",", False, False, True
        )
        return "".join(encode(value, 0))

    def loads(text: bytes) -> Any:
        """The value of a JSON text; `ValueError` if it is none, or `RecursionError`."""
        decoded = text.decode("utf-8", "surrogatepass").strip(" \t\n\r")
        try:
            value, end = scan(decoded, 0)
        except StopIteration as stop:
            raise ValueError(f"no JSON value at character {stop.value}") from None
        if end != len(decoded):
            raise ValueError(f"more than one JSON value: the second is at character {end}")
        return value
