"""`paddock ls`, `rm` and `gc` as real processes, over sandboxes of other real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Paddock

OWNER = """
import asyncio, json, sys
from paddock.backends.base import get_backend

async def main():
    name, recipe = sys.argv[1], json.loads(sys.argv[2])
    async with get_backend(name)(**recipe).sandbox() as sandbox:
        print(sandbox.id, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class Owner:
    """A process that holds one sandbox until its stdin ends, or it is killed."""

    def __init__(self, environment: dict[str, str], backend: str, **recipe: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, backend, json.dumps(recipe)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.sandbox = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)

    def end(self) -> int:
        self.process.communicate("", timeout=30)
        return self.process.returncode


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sandbox of anybody else is at stake: local ones and locks are in a place of our own."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))


@pytest.fixture
def owner(paddock: Paddock) -> Iterator[Callable[..., Owner]]:
    """Starts owners, and ends those that are left."""
    with contextlib.ExitStack() as owners:

        def start(backend: str = "local", **recipe: Any) -> Owner:
            recipe = {"isolation": "none", **recipe} if backend == "local" else recipe
            started = Owner(paddock.environment, backend, **recipe)
            owners.callback(started.end)
            return started

        yield start


def listed(paddock: Paddock, *args: str) -> list[dict[str, Any]]:
    done = paddock("ls", "--json", *args)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def leave_behind(owner: Callable[..., Owner], **recipe: Any) -> str:
    """The id of a sandbox whose owner was killed."""
    started = owner(**recipe)
    started.kill()
    return started.sandbox


# ls


def test_without_sandboxes_nothing_is_listed(paddock: Paddock) -> None:
    done = paddock("ls", "--backend", "local")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No sandboxes.\n")
    assert listed(paddock, "--backend", "local") == []


def test_sandboxes_of_other_processes_are_listed(
    paddock: Paddock, owner: Callable[..., Owner]
) -> None:
    labelled = owner(labels={"team": "blue", "odd": "\x1b[2Jx"})
    plain = owner(working_dir=str(paddock.cwd))
    first, second = listed(paddock, "--backend", "local")
    assert (first["id"], first["owner"], first["state"]) == (labelled.sandbox, "alive", "running")
    assert first["labels"] == {"team": "blue", "odd": "\x1b[2Jx"}
    assert (second["id"], second["working_dir"]) == (plain.sandbox, str(paddock.cwd))
    (found,) = listed(paddock, "-b", "local", "--label", "team=blue")
    assert found["id"] == labelled.sandbox
    table = paddock("ls", "-b", "local").stdout
    assert labelled.sandbox in table
    assert "team=blue" in table
    assert "\x1b" not in table


def test_an_owner_that_was_killed_is_told_as_gone(
    paddock: Paddock, owner: Callable[..., Owner]
) -> None:
    left = leave_behind(owner)
    (info,) = listed(paddock, "--backend", "local")
    assert (info["id"], info["owner"], info["state"]) == (left, "gone", "ended")


def test_a_backend_that_does_not_answer_is_told_and_the_others_are_listed(
    paddock: Paddock, owner: Callable[..., Owner]
) -> None:
    there = owner()
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = paddock("ls", "--json", env=nowhere)
    assert done.returncode == 0
    assert [info["id"] for info in json.loads(done.stdout)] == [there.sandbox]
    assert done.stderr.startswith("paddock: docker: ")
    asked = paddock("ls", "--backend", "docker", env=nowhere)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "no Docker Engine answers" in asked.stderr


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["ls", "--label", "nonsense"], 2, "KEY=VALUE"),
        (["ls", "--backend", "nonsense"], 1, "no backend is called 'nonsense'"),
        (["gc", "--backend", "nonsense"], 1, "no backend is called 'nonsense'"),
        (["rm"], 2, "--all"),
        (["rm", "x", "--all"], 2, "--all"),
        (["rm", "-b", "local", "x"], 1, "no sandbox has the id 'x'"),
        (["rm", "-b", "local", ""], 1, "no sandbox has the id ''"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(
    paddock: Paddock, args: list[str], code: int, told: str
) -> None:
    done = paddock(*args)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


# rm


def test_what_was_left_is_removed_by_the_beginning_of_its_id(
    paddock: Paddock, owner: Callable[..., Owner]
) -> None:
    held = owner()
    left = leave_behind(owner)
    done = paddock("rm", "-b", "local", left[:10], left)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{left}\n", "")
    assert [info["id"] for info in listed(paddock, "-b", "local")] == [held.sandbox]


def test_one_unknown_id_among_others_removes_none(
    paddock: Paddock, owner: Callable[..., Owner]
) -> None:
    left = leave_behind(owner)
    assert paddock("rm", "-b", "local", left, "nonsense").returncode == 1
    assert len(listed(paddock, "-b", "local")) == 1


def test_a_local_sandbox_whose_owner_is_alive_is_not_removed_and_its_owner_is_named(
    paddock: Paddock, owner: Callable[..., Owner]
) -> None:
    held = owner()
    left = leave_behind(owner)
    done = paddock("rm", "-b", "local", "--all", "--yes")
    assert (done.returncode, done.stdout) == (1, f"{left}\n")
    assert f"paddock: {held.sandbox}: " in done.stderr
    assert f"end process {held.process.pid}" in done.stderr
    assert [info["id"] for info in listed(paddock, "-b", "local")] == [held.sandbox]


def test_all_are_removed_only_after_a_yes(paddock: Paddock, owner: Callable[..., Owner]) -> None:
    left = leave_behind(owner)
    refused = paddock("rm", "-b", "local", "--all")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert answer(paddock, "n") != 0
    assert [info["id"] for info in listed(paddock, "-b", "local")] == [left]
    assert answer(paddock, "y") == 0
    assert listed(paddock, "-b", "local") == []
    assert paddock("rm", "-b", "local", "--all", "--yes").returncode == 0


def answer(paddock: Paddock, key: str) -> int:
    """Type `key` at a terminal that asks whether to remove all; the exit code."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{key}\n".encode())
        done = subprocess.run(
            paddock.command("rm", "-b", "local", "--all"),
            cwd=paddock.cwd,
            env=paddock.environment,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    assert "Remove 1 sandbox, used or not?" in done.stderr
    return done.returncode


# gc


def test_only_what_owners_left_is_collected(paddock: Paddock, owner: Callable[..., Owner]) -> None:
    held = owner()
    left = leave_behind(owner)
    done = paddock("gc", "--backend", "local")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{left}\n", "")
    again = paddock("gc", "--backend", "local")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "Nothing was left behind.\n")
    assert [info["id"] for info in listed(paddock, "-b", "local")] == [held.sandbox]
    assert held.end() == 0
    assert listed(paddock, "-b", "local") == []


# Containers


@pytest.mark.docker
def test_a_container_is_listed_and_taken_from_its_owner_by_a_short_id(
    paddock: Paddock, owner: Callable[..., Owner], base_image: str
) -> None:
    label = f"test={secrets.token_hex(6)}"
    recipe = {"network": "none", "image": base_image, "labels": dict([label.split("=")])}
    held = owner("docker", **recipe)
    (info,) = listed(paddock, "--label", label)
    assert (info["id"], info["backend"], info["image"]) == (held.sandbox, "docker", base_image)
    assert (info["owner"], info["state"]) == ("alive", "running")
    short = held.sandbox.removeprefix("paddock-")[:10]
    done = paddock("rm", short)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{held.sandbox}\n", "")
    assert listed(paddock, "--label", label) == []
    assert held.end() == 0
