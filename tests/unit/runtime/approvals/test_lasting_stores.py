"""Stores that outlast the process: who wins between processes, and what a crash leaves."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.errors import SessionError
from paddock.runtime.approvals.directory_store import APPROVALS, DirectoryApprovalStore
from paddock.runtime.approvals.sqlite_store import SqliteApprovalStore
from paddock.runtime.core.approval import Decision
from tests.unit.runtime.approvals.conftest import request

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.core.approval import ApprovalStore

RACER = """
import asyncio, sys
from paddock.errors import ApprovalError
from paddock.runtime.approvals.{module} import {name} as Store
from paddock.runtime.core.approval import Decision

async def main():
    store, won = Store(sys.argv[1]), []
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range({count}):
        try:
            await store.resolve(f"a{{number}}", Decision(outcome="approve", by=sys.argv[2]))
            won.append(f"a{{number}}")
        except ApprovalError as error:
            assert error.code == "answered", error
    print(*won)

asyncio.run(main())
"""
COUNT = 12
RACERS = 8
KINDS = {
    "sqlite": ("sqlite_store", SqliteApprovalStore, "a.db"),
    "directory": ("directory_store", DirectoryApprovalStore, "s"),
}
APPROVE = Decision(outcome="approve")


async def ask_all(store: ApprovalStore, count: int) -> None:
    for number in range(count):
        await store.ask(request(f"a{number}"))


@pytest.mark.parametrize("kind", KINDS)
def test_of_processes_that_answer_at_once_exactly_one_wins(kind: str, tmp_path: Path) -> None:
    module, made, name = KINDS[kind]
    store: ApprovalStore = made(tmp_path / name)
    asyncio.run(ask_all(store, COUNT))
    script = RACER.format(module=module, name=made.__name__, count=COUNT)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name), f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    won: dict[str, str] = {}
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for number, racer in enumerate(racers):
        output, _ = racer.communicate(timeout=100)
        assert racer.returncode == 0
        for name in output.split():
            assert won.setdefault(name, f"p{number}") == f"p{number}", "two won"
    assert len(won) == COUNT
    answers = {each.request.id: each.answer for each in asyncio.run(store.list())}
    assert {name: answer.by for name, answer in answers.items() if answer} == won


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_was_given_survives_the_death_of_who_gave_it(
    kind: str, tmp_path: Path
) -> None:
    module, made, name = KINDS[kind]
    store: ApprovalStore = made(tmp_path / name)
    asyncio.run(ask_all(store, 1))
    script = RACER.format(module=module, name=made.__name__, count=1).replace(
        "print(*won)", f"import os; os.kill(os.getpid(), {signal.SIGKILL})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / name), "ann"], input="\n", text=True,
        stdout=subprocess.DEVNULL, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert asyncio.run(store.wait("a0")) == Decision(outcome="approve", by="ann")


async def test_a_file_that_was_cut_anywhere_gives_whole_answers_or_none(tmp_path: Path) -> None:
    whole = DirectoryApprovalStore(tmp_path / "whole")
    await whole.ask(request("one"))
    asked = whole.path.stat().st_size
    await whole.resolve("one", APPROVE)
    data = whole.path.read_bytes()
    for end in range(0, len(data) + 1, 7):
        store = DirectoryApprovalStore(tmp_path / f"cut{end}")
        store.path.parent.mkdir(mode=0o700)
        store.path.write_bytes(data[:end])
        os.chmod(store.path, 0o600)
        known = await store.get("one")
        assert (known is None) == (end < asked - 1)
        await store.ask(request("one"))
        assert (await store.resolve("one", APPROVE)).answer == APPROVE
        lines = store.path.read_bytes().splitlines()
        assert [json.loads(line)["type"] for line in lines] == ["approval"] * 2


async def test_a_file_of_somebody_elses_making_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o700)
    (tmp_path / "s" / APPROVALS).write_text('{"type": "approval", "request": 5}\n')
    with pytest.raises(SessionError, match="not an approval"):
        await DirectoryApprovalStore(tmp_path / "s").list()
    (tmp_path / "other").write_text("x")
    (tmp_path / "s" / APPROVALS).unlink()
    (tmp_path / "s" / APPROVALS).symlink_to(tmp_path / "other")
    with pytest.raises(SessionError, match=r"cannot use the approvals in .*symbolic link"):
        await DirectoryApprovalStore(tmp_path / "s").ask(request())
    (tmp_path / "no.db").write_text("no database at all, but some text")
    with pytest.raises(SessionError, match="cannot use the approval store"):
        await SqliteApprovalStore(tmp_path / "no.db").list()


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_their_owners_alone(kind: str, tmp_path: Path) -> None:
    _, made, name = KINDS[kind]
    asyncio.run(ask_all(made(tmp_path / name), 1))
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert files
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


async def test_looking_makes_no_file(tmp_path: Path) -> None:
    store = DirectoryApprovalStore(tmp_path / "s")
    assert await store.get("one") is None
    assert list(await store.list()) == []
    assert not (tmp_path / "s").exists()
