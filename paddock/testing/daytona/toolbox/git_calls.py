"""The calls of ``/git`` that change a repository, or describe its commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from aiohttp import web

from paddock.testing.daytona.toolbox.replies import DaemonError, no_content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from paddock.testing.daytona.toolbox.routing import Handler
    from paddock.testing.daytona.toolbox.shells import Surroundings

__all__ = ["GitCalls", "with_credentials"]

RESETS = frozenset({"soft", "mixed", "hard", "merge", "keep"})
SCOPES = frozenset({"global", "local", "system"})
LOG = "%H%x00%an%x00%ae%x00%aI%x00%B%x01"
"""Of each commit: hash, author, address, time and message."""


class RunGit(Protocol):
    """Runs git in a folder, see `Git`."""

    async def __call__(self, folder: Path, *arguments: str, may_fail: bool = False) -> str:
        """What it prints; raises `DaemonError`."""


class GitCalls:
    def __init__(self, surroundings: Surroundings, git: RunGit) -> None:
        self._surroundings = surroundings
        self._git = git

    def routes(self) -> dict[str, Handler]:
        return {
            "POST /git/init": self._init,
            "POST /git/add": self._add,
            "POST /git/commit": self._commit,
            "GET /git/history": self._history,
            "GET /git/branches": self._branches,
            "POST /git/branches": self._create_branch,
            "DELETE /git/branches": self._delete_branch,
            "POST /git/checkout": self._checkout,
            "POST /git/pull": self._pull,
            "POST /git/push": self._push,
            "POST /git/reset": self._reset,
            "POST /git/restore": self._restore,
            "GET /git/remotes": self._remotes,
            "POST /git/remotes": self._add_remote,
            "GET /git/config": self._get_config,
            "POST /git/config": self._set_config,
            "POST /git/config/user": self._set_user,
            "POST /git/credentials": self._keep_credentials,
        }

    async def _init(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder = self._folder(order["path"])
        folder.mkdir(parents=True, exist_ok=True)
        branch = order.get("initial_branch")
        await self._git(
            folder,
            "init",
            *(["--bare"] if order.get("bare") else []),
            *([f"--initial-branch={branch}"] if branch else []),
        )
        return web.Response(status=201)

    async def _add(self, request: web.Request) -> web.Response:
        order = await request.json()
        await self._git(self._folder(order["path"]), "add", "--", *order["files"])
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder = self._folder(order["path"])
        await self._git(
            folder,
            *("-c", f"user.name={order['author']}", "-c", f"user.email={order['email']}"),
            *("commit", "--message", order["message"]),
            *(["--allow-empty"] if order.get("allow_empty") else []),
        )
        return web.json_response({"hash": (await self._git(folder, "rev-parse", "HEAD")).strip()})

    async def _history(self, request: web.Request) -> web.Response:
        told = await self._git(self._folder(request.query["path"]), "log", f"--format={LOG}")
        names = ("hash", "author", "email", "timestamp", "message")
        commits = [
            dict(zip(names, commit.strip("\n").split("\0"), strict=True))
            for commit in told.split("\1")
            if commit.strip()
        ]
        return web.json_response(commits)

    async def _branches(self, request: web.Request) -> web.Response:
        folder = self._folder(request.query["path"])
        told = await self._git(folder, "for-each-ref", "--format=%(refname:short)", "refs/heads")
        current = await self._git(folder, "symbolic-ref", "--short", "HEAD", may_fail=True)
        return web.json_response({"branches": told.split(), "current": current.strip()})

    async def _create_branch(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder = self._folder(order["path"])
        if await self._knows(folder, order["name"]):
            message = f"a branch named {order['name']!r} already exists"
            raise DaemonError(409, message, "GIT_BRANCH_EXISTS")
        await self._git(folder, "checkout", "-b", order["name"])
        return web.Response(status=201)

    async def _delete_branch(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder = await self._with_branch(order["path"], order["name"])
        # As the daemon does, even where it is checked out.
        await self._git(folder, "update-ref", "-d", f"refs/heads/{order['name']}")
        return no_content()

    async def _checkout(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder = self._folder(order["path"])
        if not await self._git(folder, "rev-parse", "--verify", order["branch"], may_fail=True):
            message = f"branch not found: {order['branch']}"
            raise DaemonError(404, message, "GIT_BRANCH_NOT_FOUND")
        await self._git(folder, "checkout", order["branch"])
        return web.Response()

    async def _pull(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder, remote = await self._remote(order)
        branch = order.get("branch") or await self._current(folder)
        await self._git(folder, "pull", "--no-rebase", remote, branch)
        return web.Response()

    async def _push(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder, remote = await self._remote(order)
        branch = order.get("branch") or await self._current(folder)
        upstream = ["--set-upstream"] if order.get("set_upstream") else []
        await self._git(folder, "push", *upstream, remote, branch)
        return web.Response()

    async def _reset(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder, target = self._folder(order["path"]), order.get("target") or "HEAD"
        if files := order.get("files"):
            await self._git(folder, "reset", "--quiet", target, "--", *files)
        else:
            mode = order.get("mode") or "mixed"
            _check("mode", mode, RESETS)
            await self._git(folder, "reset", "--quiet", f"--{mode}", target)
        return web.Response()

    async def _restore(self, request: web.Request) -> web.Response:
        order = await request.json()
        options = [f"--{name}" for name in ("staged", "worktree") if order.get(name)]
        if source := order.get("source"):
            options.append(f"--source={source}")
        folder = self._folder(order["path"])
        await self._git(folder, "restore", *options, "--", *order["files"])
        return web.Response()

    async def _remotes(self, request: web.Request) -> web.Response:
        folder = self._folder(request.query["path"])
        names = (await self._git(folder, "remote")).split()
        urls = [(await self._git(folder, "remote", "get-url", name)).strip() for name in names]
        remotes = [{"name": name, "url": url} for name, url in zip(names, urls, strict=True)]
        return web.json_response({"remotes": remotes})

    async def _add_remote(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder, name = self._folder(order["path"]), order["name"]
        there = (await self._git(folder, "remote")).split()
        if name in there and not order.get("overwrite"):
            raise DaemonError(409, f"remote {name!r} already exists")
        if name in there:
            await self._git(folder, "remote", "remove", name)
        await self._git(folder, "remote", "add", name, order["url"])
        if order.get("fetch"):
            await self._git(folder, "fetch", name)
        return web.Response(status=201)

    async def _get_config(self, request: web.Request) -> web.Response:
        folder, scope = self._scope(request.query)
        told = await self._git(
            folder, "config", *scope, "--get", request.query["key"], may_fail=True
        )
        return web.json_response({"value": told.rstrip("\n") or None})

    async def _set_config(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder, scope = self._scope({"scope": "global", **order})
        await self._git(folder, "config", *scope, order["key"], order["value"])
        return web.Response()

    async def _set_user(self, request: web.Request) -> web.Response:
        order = await request.json()
        folder, scope = self._scope({"scope": "global", **order})
        for name in ("name", "email"):
            await self._git(folder, "config", *scope, f"user.{name}", order[name])
        return web.Response()

    async def _keep_credentials(self, request: web.Request) -> web.Response:
        order = await request.json()
        host, protocol = order.get("host") or "github.com", order.get("protocol") or "https"
        home = self._surroundings.home
        with (home / ".git-credentials").open("a") as file:
            file.write(with_credentials(f"{protocol}://{host}", order) + "\n")
        await self._git(home, "config", "--global", "credential.helper", "store")
        return web.Response()

    async def _current(self, folder: Path) -> str:
        return (await self._git(folder, "symbolic-ref", "--short", "HEAD")).strip()

    def _folder(self, path: str) -> Path:
        return self._surroundings.resolve(path)

    async def _knows(self, folder: Path, branch: str) -> bool:
        found = ("rev-parse", "--verify", f"refs/heads/{branch}")
        return bool(await self._git(folder, *found, may_fail=True))

    async def _with_branch(self, path: str, branch: str) -> Path:
        folder = self._folder(path)
        if not await self._knows(folder, branch):
            raise DaemonError(404, f"branch not found: {branch}", "GIT_BRANCH_NOT_FOUND")
        return folder

    async def _remote(self, order: Mapping[str, Any]) -> tuple[Path, str]:
        """The repository, and where to pull from or push to: with a password, an address."""
        folder, name = self._folder(order["path"]), order.get("remote") or "origin"
        if not order.get("username"):
            return folder, name
        url = (await self._git(folder, "remote", "get-url", name)).strip()
        return folder, with_credentials(url, order)

    def _scope(self, order: Mapping[str, Any]) -> tuple[Path, Sequence[str]]:
        scope = order.get("scope")
        if scope is not None:
            _check("scope", scope, SCOPES)
        if scope == "local" and not order.get("path"):
            raise DaemonError(400, "path is required when scope is local")
        folder = self._folder(order.get("path") or "")
        return folder, [] if scope is None else [f"--{scope}"]


def _check(name: str, value: str, known: frozenset[str]) -> None:
    if value not in known:
        raise DaemonError(400, f"{name} is not one of {', '.join(sorted(known))}: {value}")


def with_credentials(url: str, order: Mapping[str, Any]) -> str:
    """`url` with the name and the password of an order, if it has any."""
    if not order.get("username"):
        return url
    parts = urlsplit(url)
    who = f"{quote(order['username'], safe='')}:{quote(order.get('password') or '', safe='')}"
    return parts._replace(netloc=f"{who}@{parts.netloc}").geturl()
