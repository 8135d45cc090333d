"""``paddock serve``: an agent, or a handler of the user's own, inside this container.

It needs none of what the rest of the command line needs: in a sandbox little is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import PaddockError
from paddock.runtime.remote.agents import AGENTS, agent_named
from paddock.runtime.remote.handler import as_handler
from paddock.runtime.remote.server import DEFAULT_PORT, RuntimeServer
from paddock.runtime.remote.settings import ServerSettings
from paddock.runtime.remote.workplace import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

DEFAULTS = ServerSettings()
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+|null")
EPILOG = f"""\
agents: {", ".join(AGENTS)}. A handler is FILE.py or FILE.py:NAME or module:NAME, and has
`async def run(invocation, sender)`, or is such a function. Without a token one is made, and
printed once, in the URL; {TOKEN_VARIABLE} in the environment is the same as --token."""


def main(args: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code, 1 for a failure, 2 for wrong usage."""
    try:
        given = _parser().parse_args(args)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        handler = _handler(given)
        asyncio.run(_serve(handler, given))
    except (PaddockError, OSError, _Unusable) as error:
        print(f"paddock serve: {error}", file=sys.stderr)  # noqa: T201 - it is a program
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="paddock serve",
        description="Run an agent inside this container for clients outside.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--agent", default="openai", help="one of ours (default: openai)")
    what.add_argument("--handler", help="your own")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 finds a free one")
    parser.add_argument("--host", default="127.0.0.1", help="elsewhere a token is required")
    token = parser.add_mutually_exclusive_group()
    token.add_argument("--token", default=os.environ.get(TOKEN_VARIABLE) or None)
    token.add_argument("--no-token", action="store_true", help="on loopback only")
    parser.add_argument(
        "--allow-origin",
        action="append",
        type=_origin,
        default=[],
        help="whose web pages may connect, such as https://example.org",
    )
    for name, default, text in (
        ("--grace", DEFAULTS.grace, "for runs to end when this stops"),
        ("--resume-grace", DEFAULTS.resume_grace, "for a client to come back to its run"),
        ("--legacy-linger", DEFAULTS.linger, "until connections of older clients are closed"),
    ):
        parser.add_argument(name, type=_seconds, default=default, help=f"seconds {text}")
    parser.add_argument("--working-dir", help="where commands run (default: here)")
    parser.add_argument("--state-dir", help="where ends of runs are kept")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (seconds := float(text)) < 1e9:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds")


def _origin(text: str) -> str:
    """Return what a browser sends for a page there, which is compared as it is."""
    if not ORIGIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give one like https://example.org:8080")
    return text


class _Unusable(Exception):
    """A handler that cannot be used, and why."""


def _handler(given: argparse.Namespace) -> object:
    if given.handler is None:
        return agent_named(given.agent)
    place, _, name = given.handler.partition(":")
    found: Any = _module(place, given.handler)
    try:
        if name:
            found = getattr(found, name)
        else:
            found = next(
                getattr(found, each) for each in ("handler", "run") if hasattr(found, each)
            )
    except (AttributeError, StopIteration):
        wanted = name or "handler, or a function run(invocation, sender)"
        raise _Unusable(f"--handler {given.handler}: it has no {wanted}") from None
    try:
        as_handler(found)
    except TypeError:
        raise _Unusable(
            f"--handler {given.handler}: give it a method run(invocation, sender)"
        ) from None
    return found


def _module(place: str, shown: str) -> Any:
    """Import what a handler is in: a file, or a module."""
    sys.path.insert(0, os.getcwd())
    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        raise _Unusable(f"--handler {shown}: {type(error).__name__}: {error}") from error
    return module


async def _serve(handler: object, given: argparse.Namespace) -> None:
    server = RuntimeServer(
        handler,
        host=given.host,
        port=given.port,
        token=False if given.no_token else given.token,
        allowed_origins=given.allow_origin,
        working_dir=given.working_dir,
        state_dir=given.state_dir,
        settings=ServerSettings(
            grace=given.grace, resume_grace=given.resume_grace, linger=given.legacy_linger
        ),
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with server:
            _say(f"RuntimeUse server listening on port {server.port}")
            if given.token is None and not given.no_token:
                _say(f"Connect to {server.url}")
            await stopped.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # its output is not read, which is no reason
        print(line, flush=True)  # noqa: T201 - it is a program
