"""Runs a server until Ctrl-C, for a shell to try things against."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import sys

from paddock.testing.daytona import DaytonaServer

_ABOUT = """\
Run a Daytona on 127.0.0.1, on a free port, until Ctrl-C. It prints the shell lines that lead
the Daytona SDK and Paddock to it; run them in another shell. Commands of its sandboxes run on
this machine, as you, without any isolation. At the end every sandbox is removed, and what it
was asked that Daytona's API does not have is reported, with exit code 1."""


def main() -> None:
    """The entry point of ``python -m paddock.testing.daytona``."""
    parser = argparse.ArgumentParser(
        prog="python -m paddock.testing.daytona",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--delay",
        type=float,
        default=0.01,
        metavar="SECONDS",
        help="how long each state on the way to another lasts (default: %(default)s)",
    )
    parser.add_argument(
        "--container",
        action="store_true",
        help="refuse what the service refuses for containers: fork, pause and resume",
    )
    arguments = parser.parse_args()
    sandbox_class = "container" if arguments.container else "linux-vm"
    server = DaytonaServer(delay=arguments.delay, sandbox_class=sandbox_class)
    asyncio.run(_serve(server))
    if server.violations:
        sys.exit("\n".join(server.violations))


async def _serve(server: DaytonaServer) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with server:
        for name, value in server.environment().items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
