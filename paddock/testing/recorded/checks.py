"""Checks of the lines of a cassette, which may have been edited by hand."""

from __future__ import annotations

from typing import Any

from paddock.errors import ConfigError
from paddock.filetypes import FileInfo, GlobResult, GrepResult, TextLines
from paddock.process import ExecResult
from paddock.resources import Stats
from paddock.sandbox import Capability
from paddock.testing.recorded.codec import decode, decode_error
from paddock.transfers import Transfer

__all__ = ["check_about", "check_answer"]

VALUES: dict[str, type | tuple[type, ...]] = {
    "stats": Stats,
    "fs.read_bytes": bytes,
    "fs.read_lines": TextLines,
    "fs.open_read": bytes,
    "fs.open_archive": bytes,
    "fs.list": (list, tuple),
    "fs.stat": FileInfo,
    "fs.glob": GlobResult,
    "fs.grep": GrepResult,
    "fs.upload": Transfer,
    "fs.upload_file": Transfer,
    "fs.download": dict,
    "fs.download_file": bytes,
}
"""What calls return. The others return None."""


def check_about(about: Any) -> dict[str, Any]:
    """Return what is recorded of a sandbox. Raise `ValueError` or `LookupError` if it is wrong."""
    env, capabilities = about["env"], about["capabilities"]
    texts = [about["backend"], about["working_dir"], *env, *env.values()]
    if not all(isinstance(each, str) for each in texts) or not isinstance(capabilities, list):
        raise ValueError("the description of a sandbox must be text")
    for each in capabilities:
        Capability(each)
    return dict(about)


def check_answer(name: str, answer: Any) -> Any:
    """Return the answer to a call. Raise `ValueError` or `ConfigError` if it is wrong."""
    match answer:
        case None:
            pass
        case {"error": error}:
            _check_error(error)
        case {"events": [*events]} if name == "start":
            for event in events:
                _check_event(event)
        case {"value": value} if name != "start":
            _require(value, VALUES.get(name, type(None)))
        case _:
            raise ValueError(f"no answer to {name!r}")
    return answer


def _check_event(event: Any) -> None:
    match event:
        case ["output", "stdout" | "stderr", data] | ["send" | "eof", data]:
            _require(data, bytes)
        case ["signal", int()] | ["kill"]:
            pass
        case ["end", result]:
            _require(result, ExecResult)
        case ["error", error]:
            _check_error(error)
        case _:
            raise ValueError(f"no event of a command: {event!r}")


def _require(value: Any, kind: type | tuple[type, ...]) -> None:
    if not isinstance(decode(value), kind):
        raise ValueError(f"not what the call returns: {value!r}")


def _check_error(error: Any) -> None:
    found = decode_error(error)
    if isinstance(found, ConfigError) and error != {"type": "ConfigError", "args": [*found.args]}:
        raise found
