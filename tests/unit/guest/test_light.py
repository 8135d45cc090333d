"""What the guest has instead of the standard library's does the same."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.backends.guest import precompiled
from paddock.backends.guest.inside import light

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=20,
)


@given(VALUES)
def test_it_writes_what_the_library_writes_and_reads_it_back(value: Any) -> None:
    text = light.dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert light.loads(text.encode()) == value


@given(
    st.binary(max_size=40) | st.text(alphabet='[]{}",:0123456789eE.+-truefalsn \\u').map(str.encode)
)
def test_it_refuses_what_the_library_refuses(text: bytes) -> None:
    try:
        expected = json.loads(text.decode("utf-8", "surrogatepass"))
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011  # the messages are others
            light.loads(text)
    else:
        found = light.loads(text)
        assert found == expected or (found != found and math.isnan(expected))


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(RecursionError):
        light.loads(b"[" * 100_000)


def test_what_json_has_not_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="a set"):
        light.dumps({"a": {1}})


@pytest.mark.parametrize("library", [light.contextmanager, contextlib.contextmanager])
def test_a_generator_as_a_context_ends_with_its_body(library: Any) -> None:
    seen: list[str] = []

    def body(translated: type[Exception] | None, ignored: type[Exception] | None) -> Any:
        try:
            yield "entered"
        except KeyError:
            if translated is not None:
                raise translated from None
            if ignored is None:
                raise
        finally:
            seen.append("ended")

    steps: Any = library(body)
    with steps(None, None) as found:
        assert found == "entered"
    with pytest.raises(KeyError), steps(None, None):
        raise KeyError
    with pytest.raises(ArithmeticError), steps(ArithmeticError, None):
        raise KeyError
    with steps(None, KeyError):
        seen.append(os.environ["NO_SUCH_VARIABLE"])
    assert seen == ["ended"] * 4


SLOW = {
    "re",
    "enum",
    "functools",
    "collections",
    "contextlib",
    "typing",
    "json",
    "ctypes",
    "socket",
}


def test_a_guest_starts_without_the_modules_that_take_long_to_import() -> None:
    loaded = _in_a_guest("import sys; print(*sys.modules)").split()
    assert "inside.loop" in loaded
    assert not SLOW & set(loaded)


def test_a_guest_has_all_of_os_as_soon_as_it_uses_it() -> None:
    told = _in_a_guest(
        "import os, sys; first = set(sys.modules); import inside.loop\n"
        "print(os.path.join('a', 'b'), '_collections_abc' in first, os is inside.loop.os)\n"
        "import os.path, collections.abc\n"
        "print(isinstance(os.environ, collections.abc.MutableMapping), os.fsencode('a'))\n"
        "print(os is sys.modules['os'] is inside.loop.os, os.sep, os.SEEK_END, os.__spec__.name)\n"
        "print(os.environ['NAME'], os.path is sys.modules['os.path'], hasattr(os, 'nothing'))"
    )
    assert told.splitlines() == [
        "a/b False True",
        "True b'a'",
        "True / 2 os",
        "value True False",
    ]


def test_what_guests_read_cannot_be_changed() -> None:
    fd = precompiled.guest().descriptor()
    try:
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)


def _in_a_guest(program: str) -> str:
    """What is printed by a program that takes the place of a guest that has started."""
    guest = precompiled.guest()
    fd = guest.descriptor()
    command = guest.command(fd)
    command[-1] = command[-1].replace("\nmain()", f"\n{program}")
    try:
        return subprocess.run(
            command,
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            env={"NAME": "value"},
        ).stdout
    finally:
        os.close(fd)
