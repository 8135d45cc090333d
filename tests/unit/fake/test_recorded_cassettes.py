"""`Recorded` and its file: no secrets in it, whoever has edited it, and many sandboxes at once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError
from paddock.testing.fake import FakeBackend
from paddock.testing.recorded import Recorded

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import Sandbox

SECRET = "a-secret-of-some-length"
OTHER = "another-secret-of-a-length"


async def _tell(sandbox: Sandbox, secret: str, folder: Path) -> list[object]:
    """Have a secret in all that can be asked; return what came of it, without that."""
    fs = sandbox.fs
    (folder / "up").mkdir(parents=True)
    (folder / "up" / secret).write_text(secret)
    await fs.upload(folder / "up", "up")
    await fs.write_text("up/f", f"<{secret}>")
    await fs.write_text("large", secret + "." * 20_000)
    await fs.download("up", folder / "down")
    with pytest.raises(FileNotFoundError) as missing:
        await fs.read_text(f"{secret}/nothing")
    async with fs.open_archive("up") as archive:
        size = len(b"".join([piece async for piece in archive]))
    async with await sandbox.start("cat") as process:
        for piece in (secret[:9], secret[9:]):
            await process.send(piece.encode())
        await process.send_eof()
        printed = (await process.wait()).stdout
    down = sorted(path.name for path in (folder / "down").iterdir())
    told = [(folder / "down" / "f").read_text(), *down, missing.value.filename, printed, size > 0]
    return [each.replace(secret, "?") if isinstance(each, str) else each for each in told]


async def test_no_secret_gets_into_the_cassette_by_any_call(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    async with Recorded(FakeBackend(secrets={"TOKEN": SECRET}), tape).sandbox() as sandbox:
        first = await _tell(sandbox, SECRET, tmp_path / "a")
    assert SECRET[:9] not in tape.read_text()
    assert SECRET[9:] not in tape.read_text()
    async with Recorded(FakeBackend(secrets={"TOKEN": OTHER}), tape).sandbox() as sandbox:
        again = await _tell(sandbox, OTHER, tmp_path / "b")
    assert [str(each).replace("[secret TOKEN]", "?") for each in again] == list(map(str, first))


@pytest.mark.parametrize("recorded_in", ["auto", "record"])
async def test_sandboxes_that_are_made_at_once_have_their_calls(
    tmp_path: Path, recorded_in: Any
) -> None:
    tape = tmp_path / "tape.jsonl"

    async def use(recipe: Recorded, number: int) -> str:
        async with recipe.sandbox() as sandbox:
            return (await sandbox.exec(f"echo {number}")).stdout

    async def use_many(recipe: Recorded) -> list[str]:
        return await asyncio.gather(*(use(recipe, number) for number in range(5)))

    expected = [f"{number}\n" for number in range(5)]
    assert await use_many(Recorded(FakeBackend(), tape, mode=recorded_in)) == expected
    assert await use_many(Recorded(FakeBackend(), tape, mode="replay")) == expected


async def test_the_error_of_a_replay_is_not_hidden_by_the_calls_after_it(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
        await sandbox.exec("echo 1")
    with pytest.raises(LookupError, match="mine"):
        async with Recorded(FakeBackend(), tape).sandbox():
            raise LookupError("mine")
    with pytest.raises(LookupError, match="mine"):
        async with await Recorded(FakeBackend(), tape).create():
            raise LookupError("mine")


async def test_a_recipe_with_another_file_has_a_cassette_of_its_own(tmp_path: Path) -> None:
    one = Recorded(FakeBackend(), tmp_path / "one.jsonl")
    async with one.sandbox() as sandbox:
        await sandbox.exec("echo 1")
    async with dataclasses.replace(one, cassette=tmp_path / "two.jsonl").sandbox() as sandbox:
        await sandbox.exec("echo 2")
    assert "echo 2" not in (tmp_path / "one.jsonl").read_text()
    assert "echo 2" in (tmp_path / "two.jsonl").read_text()


ABOUT = {"backend": "fake", "working_dir": "/work", "capabilities": [], "env": {}}


@pytest.mark.parametrize(
    "line",
    [
        {"about": []},
        {"about": {**ABOUT, "capabilities": ["flight"]}},
        {"about": {**ABOUT, "working_dir": 3}},
        {"about": {**ABOUT, "env": {"X": 1}}},
        {"call": "start", "args": {}, "answer": 3},
        {"call": "start", "args": {}, "answer": {"events": "x"}},
        {"call": "start", "args": {}, "answer": {"events": [["printed", "x"]]}},
        {"call": "start", "args": {}, "answer": {"events": [["output", "stdout", "text"]]}},
        {"call": "start", "args": {}, "answer": {"events": [["end", None]]}},
        {"call": "start", "args": {}, "answer": {"error": {"type": "x", "args": []}}},
        {"call": "fs.read_bytes", "args": {}, "answer": {}},
        {"call": "fs.read_bytes", "args": {}, "answer": {"value": "text"}},
        {"call": "fs.read_bytes", "args": {}, "answer": {"value": {"$text": None}}},
        {"call": "fs.list", "args": {}, "answer": {"value": {"$class": "Nothing"}}},
    ],
)
async def test_a_line_that_was_edited_badly_is_named(tmp_path: Path, line: Any) -> None:
    tape = tmp_path / "tape.jsonl"
    lines = [{"cassette": 1}, {"sandbox": 0, "about": ABOUT}, {"sandbox": 0, **line}, {"end": 3}]
    tape.write_text("".join(json.dumps(each) + "\n" for each in lines))
    with pytest.raises(ConfigError, match=r"tape.jsonl:3: not a call"):
        await Recorded(FakeBackend(), tape).create()
