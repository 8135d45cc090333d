"""The Daytona that tests are run against: an account of the service, or a server of ours.

With DAYTONA_API_KEY in the environment it is the account of that key, at DAYTONA_API_URL; else
a server of ours in a process of its own, which is no part of what a test measures. It is seen
as any account is, by what its API tells: tests that make it fail have servers of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from daytona import DaytonaConfig  # noqa: TID253 - tests alone import this

from paddock.backends.daytona import DaytonaBackend

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

T = TypeVar("T")

KEY = "DAYTONA_API_KEY"
SNAPSHOT = "DAYTONA_SNAPSHOT"
"""May name what the sandboxes of an account begin with: a snapshot is there at once, an image is
built first."""
OURS = "daytonaio/sandbox:latest"
"""The snapshot that a server of ours has."""
LEAVING = 30.0
"""Seconds in which a service has removed what it was told to remove."""
LOOK_AGAIN = 0.2


@dataclass(frozen=True)
class DaytonaAccount:
    """Where sandboxes are made; `variables` lead a process there. `before` was there already."""

    variables: Mapping[str, str]
    snapshot: str | None
    ours: bool
    before: set[str] = field(default_factory=set)

    @property
    def recipe(self) -> DaytonaBackend:
        """For the smallest sandbox that there is."""
        # Those of a server of ours run on this machine, and find the programs of this one. Each
        # call of a sandbox starts a python3 there, which may be a slow script of a version manager.
        path = {"PATH": f"{sys.base_prefix}/bin:{os.environ['PATH']}"} if self.ours else {}
        return DaytonaBackend(config=self._config, snapshot=self.snapshot, env_vars=path)

    @property
    def _config(self) -> DaytonaConfig:
        known = {
            name: self.variables.get(f"DAYTONA_{name.upper()}")
            for name in ("api_key", "api_url", "target")
        }
        return DaytonaConfig.model_validate({name: each for name, each in known.items() if each})

    async def living(self) -> set[str]:
        """The ids of the sandboxes of ours that nobody has deleted."""
        return {info.id for info in await self.recipe.list()} - self.before

    async def require_empty(self) -> None:
        """Fail if something is left that nobody deletes, and delete it."""
        end = asyncio.get_running_loop().time() + LEAVING
        while left := await self.living():
            if asyncio.get_running_loop().time() > end:
                await asyncio.gather(*(self.recipe.delete(each) for each in left))
                raise AssertionError(f"left on the account: {sorted(left)}")
            await asyncio.sleep(LOOK_AGAIN)


@contextlib.contextmanager
def daytona_account() -> Iterator[DaytonaAccount]:
    """The account for as long as a session's tests last."""
    if KEY in os.environ:
        variables = {
            name: value for name, value in os.environ.items() if name.startswith("DAYTONA")
        }
        account = DaytonaAccount(variables, os.environ.get(SNAPSHOT), ours=False)
        account.before.update(_apart(account.living()))
        yield account
        _apart(account.require_empty())
        return
    with _served() as variables:
        account = DaytonaAccount(variables, OURS, ours=True)
        yield account
        _apart(account.require_empty())


@contextlib.contextmanager
def _served() -> Iterator[dict[str, str]]:
    """A server of ours; in the end it has nothing to say against what it was asked."""
    command = [sys.executable, "-m", "paddock.testing.daytona"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield dict(_exported(process.stdout.readline()) for _ in range(3))
        finally:
            process.terminate()
            _, complaints = process.communicate(timeout=LEAVING)
    assert (process.returncode, complaints) == (0, "")


def _apart(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, also where one runs already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _exported(line: str) -> tuple[str, str]:
    """The variable that a line of a shell exports."""
    word, assignment = shlex.split(line)
    assert word == "export"
    name, _, value = assignment.partition("=")
    return name, value
