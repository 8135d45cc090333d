"""``/git``: repositories, by the git of this machine.

Clones and states of work trees here, what changes repositories in `git_calls`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from paddock.testing.daytona.toolbox.git_calls import GitCalls, with_credentials
from paddock.testing.daytona.toolbox.replies import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from paddock.testing.daytona.toolbox.execution import Execution
    from paddock.testing.daytona.toolbox.routing import Handler
    from paddock.testing.daytona.toolbox.shells import Surroundings

__all__ = ["Git"]

SECONDS = 120
"""For one git command: a clone over loopback takes much less."""
_STATES = {
    ".": "Unmodified",
    "M": "Modified",
    "T": "Modified",
    "A": "Added",
    "D": "Deleted",
    "R": "Renamed",
    "C": "Copied",
    "U": "Updated but unmerged",
}
_CAUSES: Sequence[tuple[str, int, str]] = (
    ("not a git repository", 404, "GIT_REPO_NOT_FOUND"),
    ("cannot change to", 404, "GIT_REPO_NOT_FOUND"),
    ("Authentication failed", 401, "GIT_AUTH_FAILED"),
    ("could not read Username", 401, "GIT_AUTH_FAILED"),
    ("non-fast-forward", 409, "GIT_PUSH_REJECTED"),
    ("[rejected]", 409, "GIT_PUSH_REJECTED"),
    ("would be overwritten", 409, "GIT_DIRTY_WORKTREE"),
    ("CONFLICT", 409, "GIT_MERGE_CONFLICT"),
)
"""What git says, and how the daemon tells it; everything else is 500."""


class Git:
    """Repositories in one sandbox."""

    def __init__(self, surroundings: Surroundings, execution: Execution) -> None:
        self._surroundings = surroundings
        self._execution = execution

    def routes(self) -> dict[str, Handler]:
        return {
            "POST /git/clone": self._clone,
            "GET /git/status": self._status,
            **GitCalls(self._surroundings, self._git).routes(),
        }

    async def _clone(self, request: web.Request) -> web.Response:
        order = await request.json()
        target = self._surroundings.resolve(order["path"])
        arguments = [
            "clone",
            *_choices(order),
            "--",
            with_credentials(order["url"], order),
            str(target),
        ]
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        await self._git(self._surroundings.home, *arguments)
        if commit := order.get("commit_id"):
            await self._git(target, "checkout", "--detach", commit)
        return web.Response()

    async def _status(self, request: web.Request) -> web.Response:
        folder = self._surroundings.resolve(request.query["path"])
        told = await self._git(folder, "status", "--porcelain=v2", "--branch", "-z")
        return web.json_response(_parsed(told))

    async def _git(self, folder: Path, *arguments: str, may_fail: bool = False) -> str:
        """Run git there; what it prints, or nothing if it `may_fail`. Raises `DaemonError`."""
        env = self._surroundings.variables({"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"})
        outcome = await self._execution.run(
            ["git", "-C", str(folder), *arguments],
            cwd=self._surroundings.home,
            env=env,
            stdin=b"",
            seconds=SECONDS,
        )
        if outcome.exit_code == 0:
            return outcome.result
        if may_fail:
            return ""
        for words, status, code in _CAUSES:
            if words in outcome.result and arguments[0] != "clone":
                raise DaemonError(status, outcome.result.strip(), code)
        raise DaemonError(500, outcome.result.strip(), "INTERNAL_SERVER_ERROR")


def _choices(order: dict[str, Any]) -> Sequence[str]:
    branch, depth = order.get("branch"), order.get("depth")
    return [
        *(["--branch", branch] if branch else []),
        *(["--depth", str(depth)] if depth else []),
        *(["--config", "http.sslVerify=false"] if order.get("insecure_skip_tls") else []),
    ]


def _parsed(told: str) -> dict[str, Any]:
    fields = iter(told.split("\0"))
    heads: dict[str, str] = {}
    files: list[dict[str, str]] = []
    for line in fields:
        if line.startswith("# "):
            name, _, value = line[2:].partition(" ")
            heads[name] = value
        elif line:
            files.append(_file(line, fields))
    head, upstream = heads.get("branch.head", ""), heads.get("branch.upstream", "")
    ahead, behind = heads.get("branch.ab", "+0 -0").split()
    return {
        "currentBranch": head,
        "detached": head == "(detached)",
        "upstream": upstream,
        "branchPublished": bool(upstream),
        "ahead": int(ahead),
        "behind": -int(behind),
        "fileStatus": files,
    }


def _file(line: str, following: Iterator[str]) -> dict[str, str]:
    if line.startswith("? "):
        return {"name": line[2:], "extra": "", "staging": "Untracked", "worktree": "Untracked"}
    columns = {"1": 8, "2": 9, "u": 10}[line[0]]
    parts = line.split(" ", columns)
    staging, worktree = (_STATES[letter] for letter in parts[1])
    before = next(following) if line[0] == "2" else ""  # where it was renamed or copied from
    return {"name": parts[columns], "extra": before, "staging": staging, "worktree": worktree}
