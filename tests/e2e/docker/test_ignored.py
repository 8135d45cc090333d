"""What is kept out of a context is what the docker CLI's builders keep out, for random trees.

The builders of Docker 20.10 have rules of before 2021 where exceptions are concerned: they do not
look below an ignored directory for what an exception with a wildcard brings back, and match a
directory's contents by part of its path. There only patterns are compared on which old and new
builders agree; `tools/newer-docker` compares all.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker.images.builders import numbers_of
from paddock.image.ignore import IgnoreRules, read_patterns
from tests.e2e.docker import reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine

pytestmark = pytest.mark.docker

ROUNDS = 10
TREES = 40
NAMES = ("a", "b", "ab", "a.x", ".a", "b.x", "a b", "[a]")
PARTS = ("a", "b", "ab", "*", "*.x", "?", "a*", "[ab]", "[^a]*", ".*", "a.x", "\\[a]", "**")
OLD = (20, 10)


def write_tree(folder: Path, random_: random.Random) -> None:
    """Make some ten files, links and empty directories, up to three levels deep."""
    for _ in range(10):
        path = folder.joinpath(*random_.choices(NAMES, k=random_.randint(1, 4)))
        above = [folder.joinpath(*path.parts[: len(folder.parts) + n]) for n in range(1, 4)]
        if os.path.lexists(path) or any(each.is_symlink() or each.is_file() for each in above):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        match random_.randrange(6):
            case 0:
                path.mkdir()
            case 1:
                path.symlink_to("a")
            case _:
                path.write_text(path.name)


def patterns(random_: random.Random, *, wild: bool) -> list[str]:
    """Return up to five patterns. Exceptions have wildcards only if `wild`; otherwise they come
    after patterns without ``**``."""
    found = []
    excepting = wild or random_.random() < 0.5
    for _ in range(random_.randint(1, 5)):
        if excepting and random_.random() < 0.4:
            parts: Sequence[str] = PARTS if wild else NAMES[:6]
            found.append("!" + "/".join(random_.choices(parts, k=random_.randint(1, 3))))
        else:
            parts = PARTS if wild or not excepting else PARTS[:-1]
            found.append("/".join(random_.choices(parts, k=random_.randint(1, 3))))
    return found


def write_context(folder: Path, seed: int, *, wild: bool) -> None:
    """Make many trees, each with patterns of its own that name its folder."""
    random_ = random.Random(seed)
    lines = []
    for number in range(TREES):
        write_tree(folder / f"t{number}", random_)
        for pattern in patterns(random_, wild=wild):
            mark, text = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
            lines.append(f"{mark}t{number}/{text}")
    (folder / ".dockerignore").write_text("\n".join([*lines, "Dockerfile", ".dockerignore", ""]))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /ctx\nUSER 1\n")


async def sent(engine: Engine, builder: str, folder: Path) -> set[str]:
    """Return what a builder copies of a context."""
    image = await reference.build(builder, folder, env={})
    try:
        found = await reference.tree(engine, image, "/ctx")
    finally:
        await reference.remove(engine, image)
    return {name.removeprefix("/ctx: ctx/") for name in found} - {"/ctx: ctx"}


def files(folder: Path, names: set[str]) -> set[str]:
    """Return `names` without directories: old builders send empty ones that are ignored."""
    return {name for name in names if (folder / name).is_symlink() or (folder / name).is_file()}


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_random_trees_are_sent_as_the_docker_cli_sends_them(
    docker_engine: Engine, tmp_path: Path, seed: int
) -> None:
    told = await docker_engine.call("asking for the version", docker_engine.client.version)
    old = numbers_of(told["Version"]) < (23, 0)
    write_context(tmp_path, seed, wild=not old)
    rules = IgnoreRules(read_patterns((tmp_path / ".dockerignore").read_text()))
    ours = set(rules.walk(tmp_path))
    assert len(ours) > TREES
    theirs = await sent(docker_engine, "BuildKit", tmp_path)
    assert files(tmp_path, ours) == files(tmp_path, theirs)
    if old:
        classic = await sent(docker_engine, "classic", tmp_path)
        assert files(tmp_path, ours) == files(tmp_path, classic)
    else:
        assert ours == theirs
