"""Each call of `Sandbox.fs` fails, or not, as pathlib does for the same user in the same place.

pathlib runs in the sandbox itself, on a tree that is the same as that of ours.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from paddock.backends.docker import DockerBackend
from tests.contract.conftest import PATH, WITHOUT_PYTHON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.files import FileSystem
    from paddock.image import Image
    from paddock.sandbox import Sandbox

PROGRAM = """
import json, os, pathlib, shutil, sys
Path = pathlib.Path

def enter(folder):
    if not os.path.exists(folder):
        os.makedirs(folder)
        os.chdir(folder)
        make()
    os.chdir(folder)

def make():
    for name in ("file", "readonly", "secret", "full/x", "closed/file", "locked/file"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("old")
    Path("folder").mkdir()
    for name, mode in (("readonly", 0o444), ("secret", 0), ("closed", 0o555), ("locked", 0)):
        os.chmod(name, mode)
    for name, target in (("link", "file"), ("dangling", "nothing"), ("loop", "loop"),
                         ("folderlink", "folder"), ("linked", "readonly")):
        os.symlink(target, name)

top, told = os.getcwd(), []
for tree, source in json.load(sys.stdin):
    enter(f"{top}/ours/{tree}")
    enter(f"{top}/theirs/{tree}")
    try:
        exec(source)
        told.append(None)
    except Exception as error:
        told.append([type(error).__name__, getattr(error, "errno", None)])
print(json.dumps(told))
"""
AT_ONCE = 8
"""Calls at once: without a guest each of them is a process or two."""


class Case(NamedTuple):
    """What pathlib is asked (as source), and what we are, below a directory."""

    theirs: str
    ours: Callable[[FileSystem, str], Awaitable[object]]


async def _streamed(fs: FileSystem, path: str, *, append: bool = False) -> None:
    async with fs.open_write(path, append=append) as file:
        await file.write(b"new")


async def _streamed_out(fs: FileSystem, path: str) -> None:
    async with fs.open_read(path) as file:
        async for _ in file:
            pass


PLACES = [
    *("file", "readonly", "secret", "folder", "full", "absent", "link", "dangling", "loop"),
    *("linked", "full/../file", "file/below", "file/far/below", "closed/file"),
    *("closed/new", "locked/file", "locked/new", "folder/new", "folderlink/new", "full/x"),
    "n" * 256,
]
ON_PLACES: dict[str, Case] = {
    "read": Case("Path({path!r}).read_bytes()", lambda fs, path: fs.read_bytes(path)),
    "read lines": Case("Path({path!r}).read_bytes()", lambda fs, path: fs.read_lines(path)),
    "read by pieces": Case("Path({path!r}).open('rb').read()", _streamed_out),
    "write": Case("Path({path!r}).write_bytes(b'new')", lambda fs, path: fs.write_text(path, "n")),
    "write much": Case(
        "Path({path!r}).write_bytes(b'new')", lambda fs, path: fs.write_bytes(path, bytes(2**21))
    ),
    "write by pieces": Case("Path({path!r}).open('wb').write(b'new')", _streamed),
    "append": Case(
        "Path({path!r}).open('ab').write(b'new')", lambda fs, path: fs.append(path, "n")
    ),
    "append by pieces": Case(
        "Path({path!r}).open('ab').write(b'new')", lambda fs, path: _streamed(fs, path, append=True)
    ),
    "create": Case(
        "Path({path!r}).open('xb').write(b'new')",
        lambda fs, path: fs.write_bytes(path, b"n", exclusive=True),
    ),
    "mkdir": Case(
        "Path({path!r}).mkdir()",
        lambda fs, path: fs.mkdir(path, parents=False, exist_ok=False),
    ),
    "mkdir, parents": Case(
        "Path({path!r}).mkdir(parents=True, exist_ok=True)", lambda fs, path: fs.mkdir(path)
    ),
    "stat": Case("Path({path!r}).stat()", lambda fs, path: fs.stat(path)),
    "lstat": Case("Path({path!r}).lstat()", lambda fs, path: fs.lstat(path)),
    "exists": Case("Path({path!r}).exists()", lambda fs, path: fs.exists(path)),
    "chmod": Case("Path({path!r}).chmod(0o600)", lambda fs, path: fs.chmod(path, 0o600)),
    "list": Case("list(Path({path!r}).iterdir())", lambda fs, path: fs.list(path)),
    "unlink": Case(
        "p = Path({path!r}); p.rmdir() if p.is_dir() and not p.is_symlink() else p.unlink()",
        lambda fs, path: fs.remove(path),
    ),
    "rename": Case("Path({path!r}).rename('moved')", lambda fs, path: fs.move(path, _beside(path))),
    "rename onto": Case(
        "Path('full/x').rename({path!r})", lambda fs, path: fs.move(_root(path) + "/full/x", path)
    ),
    "copy": Case(
        "shutil.copytree({path!r}, 'copied', symlinks=True) if Path({path!r}).is_dir()"
        " else shutil.copy({path!r}, 'copied')",
        lambda fs, path: fs.copy(path, _root(path) + "/copied"),
    ),
    "copy a directory": Case(
        "Path({path!r}).parent.stat(); shutil.copytree('full', {path!r}, symlinks=True)",
        lambda fs, path: fs.copy(_root(path) + "/full", path),
    ),
}

READING = {"read", "read lines", "read by pieces", "stat", "lstat", "exists", "list"}
"""What changes nothing, and shares a tree."""
SLOW = {"daytona", "docker-no-python"}
"""Where a call is a request or some processes."""
SOME_PLACES = [
    *("file", "readonly", "folder", "absent", "dangling", "file/below"),
    *("closed/new", "locked/file", "n" * 256),
]
"""The places there. The guest is asked about all of them elsewhere, and so is, for an ordinary
user, an image without Python."""


def _root(path: str) -> str:
    return "/".join(path.split("/")[:2])


def _beside(path: str) -> str:
    return f"{_root(path)}/moved"


async def compare(sandbox: Sandbox, places: list[str] = PLACES) -> None:
    """Ask pathlib and `sandbox.fs` the same in the same places."""
    asked = [(kind, path) for kind in ON_PLACES for path in places]
    trees = ["read" if kind in READING else str(number) for number, (kind, _) in enumerate(asked)]
    sources = [ON_PLACES[kind].theirs.format(path=path) for kind, path in asked]
    told = json.dumps([*zip(trees, sources, strict=True)])
    ran = await sandbox.exec(["python3", "-c", PROGRAM], stdin=told)
    assert ran.ok, ran.stderr
    theirs = json.loads(ran.stdout)
    ours: dict[int, list[str | int | None] | None] = {}
    named: list[str] = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int, kind: str, path: str) -> None:
        async with turns:
            try:
                await ON_PLACES[kind].ours(sandbox.fs, f"ours/{trees[number]}/{path}")
                ours[number] = None
            except OSError as error:
                ours[number] = [type(error).__name__, error.errno]
                named.append(str(error.filename))

    async with asyncio.TaskGroup() as group:
        for number, (kind, path) in enumerate(asked):
            group.create_task(ask(number, kind, path))
    await sandbox.exec("chmod -R u+rwX ours theirs")
    differences = [
        f"{kind} {path[:20]}: {ours[number]}, pathlib: {theirs[number]}"
        for number, (kind, path) in enumerate(asked)
        if ours[number] != theirs[number]
    ]
    assert not differences, "\n".join(differences)
    assert all(name.startswith(str(sandbox.path("ours"))) for name in named)
    assert not any(".paddock-" in name for name in named)
    assert not (await sandbox.exec("find ours -name '.paddock-*' | grep .")).ok


async def test_errors_are_those_of_pathlib(
    sandbox: Sandbox, request: pytest.FixtureRequest
) -> None:
    slow = request.node.callspec.params["backend"] in SLOW
    await compare(sandbox, SOME_PLACES if slow else PLACES)


@pytest.mark.parametrize("image", ["paddock:base", WITHOUT_PYTHON], ids=["guest", "no-python"])
async def test_errors_are_those_of_pathlib_for_an_ordinary_user(
    base_image: str, image: str | Image
) -> None:
    backend = DockerBackend(image=image, user="nobody", network="none", env_vars={"PATH": PATH})
    async with backend.sandbox() as sandbox:
        assert (await sandbox.exec("id -u")).stdout != "0\n"
        await compare(sandbox)
