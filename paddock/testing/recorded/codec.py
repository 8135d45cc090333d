"""Values and errors of the contract to JSON, and back. Nothing of a cassette is executed."""

from __future__ import annotations

import base64
import builtins
import dataclasses
import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock import errors
from paddock.errors import ConfigError, Unsupported
from paddock.filetypes import FileInfo, GlobResult, GrepLine, GrepResult, TextLines
from paddock.process import ExecResult, Fence, Output, Pty
from paddock.resources import Stats
from paddock.transfers import LeftOut, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.redaction import Redactor

__all__ = ["decode", "decode_error", "digested", "encode", "encode_error"]

CLASSES: dict[str, type] = {
    each.__name__: each
    for each in (
        *(ExecResult, Output, Fence, Pty, Stats, Transfer, LeftOut),
        *(FileInfo, GlobResult, GrepLine, GrepResult, TextLines),
    )
}
WHOLE = 16 * 1024
"""Bytes of an argument that are kept; a longer one is identified by its digest."""


def encode(value: Any, redactor: Redactor) -> Any:
    """Return `value` for JSON, without secrets."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redactor.text(value)
        case bytes() | bytearray():
            return _encode_bytes(redactor.data(bytes(value)))
        case PurePosixPath():
            return {"$path": redactor.text(str(value))}
        case ExecResult() if redactor:
            return _encode_class(value.redacted(redactor), redactor)
        case list() | tuple():
            items = [encode(item, redactor) for item in value]
            return items if isinstance(value, list) else {"$tuple": items}
        case dict():
            return {redactor.text(key): encode(item, redactor) for key, item in value.items()}
    if type(value).__name__ in CLASSES:
        return _encode_class(value, redactor)
    raise TypeError(f"a {type(value).__name__} cannot be recorded")


def _encode_bytes(data: bytes) -> Any:
    try:
        return {"$text": data.decode()}
    except UnicodeDecodeError:
        return {"$base64": base64.b64encode(data).decode()}


def _encode_class(value: Any, redactor: Redactor) -> Any:
    fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return {"$class": type(value).__name__, **encode(fields, redactor)}


def digested(data: bytes) -> Any:
    """Return data as an argument: long ones by their digest."""
    if len(data) <= WHOLE:
        return data
    return f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def decode(value: Any) -> Any:
    """Return what `encode` was given. Raise `ConfigError` for what it does not make."""
    try:
        return _decode(value)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"a value of the cassette is wrong: {error!r}") from None


def _decode(value: Any) -> Any:
    if type(value) is list:
        return [_decode(item) for item in value]
    if type(value) is not dict:
        return value
    for kind, made in _DECODERS.items():
        if kind in value:
            return made(value)
    return {key: _decode(item) for key, item in value.items()}


def _decode_class(value: dict[str, Any]) -> Any:
    fields = {key: _decode(item) for key, item in value.items() if key != "$class"}
    return CLASSES[value["$class"]](**fields)


_DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$text": lambda value: value["$text"].encode(),
    "$class": _decode_class,
    "$path": lambda value: PurePosixPath(value["$path"]),
    "$base64": lambda value: base64.b64decode(value["$base64"]),
    "$tuple": lambda value: tuple(_decode(item) for item in value["$tuple"]),
}


def encode_error(error: BaseException, redactor: Redactor) -> Any:
    """Return an error for JSON."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return {
            "type": "OSError",
            "args": [error.errno, redactor.text(error.strerror or ""), _filename(error, redactor)],
        }
    if isinstance(error, Unsupported):
        return {"type": name, "args": [error.what], "backend": error.backend, "hint": error.hint}
    args = [redactor.text(str(each)) for each in error.args]
    return {"type": name, "args": args}


def _filename(error: OSError, redactor: Redactor) -> str | None:
    return None if error.filename is None else redactor.text(str(error.filename))


def decode_error(told: Any) -> BaseException:
    """Return the error, or a `ConfigError` for an unknown one."""
    try:
        return _decode_error(told)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return ConfigError(f"an error of the cassette is wrong: {error!r}")


def _decode_error(told: Any) -> BaseException:
    name, args = told["type"], told["args"]
    if name == "Unsupported":
        return Unsupported(*args, backend=told["backend"], hint=told["hint"])
    found = getattr(errors, name, None) or getattr(builtins, name)
    if not issubclass(found, Exception):
        raise ValueError(f"no such error: {name!r}")
    made: Exception = found(*args)
    return made
