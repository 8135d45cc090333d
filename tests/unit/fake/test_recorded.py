"""`Recorded`: what a sandbox did is done again without it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from paddock import LocalBackend, Sandbox
from paddock.errors import CommandLost, ConfigError, ExecTimeout, Unsupported
from paddock.testing.conformance import (
    ArgumentTests,
    ExecTests,
    FileStreamTests,
    FileTests,
    ProcessTests,
    TransferTests,
)
from paddock.testing.fake import FakeBackend, Fault, FaultOrder, Reply
from paddock.testing.recorded import CassetteMismatch, Recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SECRET = "a-secret-of-some-length"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(FakeBackend(), tmp_path_factory.mktemp("kit") / "tape.jsonl", mode="record")


class TestWhileItIsRecorded(
    ArgumentTests, ExecTests, FileStreamTests, FileTests, ProcessTests, TransferTests
):
    """A sandbox behaves as it does without being recorded."""


async def _use(sandbox: Sandbox, folder: Path) -> list[object]:
    """Use a sandbox in most ways; return what came of it."""
    fs = sandbox.fs
    seen: list[object] = []
    command = "cat; echo $MINE; echo err >&2; exit 3"
    ran = await sandbox.exec(command, stdin="in\n", env={"MINE": "1"})
    seen += [ran.exit_code, ran.stdout, ran.stderr]
    await sandbox.exec("echo one; echo two", on_output=lambda *piece: seen.append(piece))
    async with await sandbox.start("read x; echo got $x; read y; echo and $y") as process:
        await process.send(b"a\n")
        seen.append(await anext(aiter(process.output())))
        await process.send(b"b\n")
        seen.append((await process.wait()).stdout)
    await fs.write_text("d/file", "first\nsecond\n")
    await fs.append("d/file", "third\n")
    async with fs.open_write("d/big") as writer:
        await writer.write(b"\xff" * 100_000)
    async with fs.open_read("d/big", offset=99_998) as reader:
        seen.append(await reader.read(10))
    seen += [await fs.read_text("d/file"), (await fs.read_lines("d/file", start=3)).lines]
    seen += [(await fs.glob("**")).paths, (await fs.grep("sec")).lines]
    seen += [[(each.path, each.size) for each in await fs.list("d")], await fs.exists("nothing")]
    with pytest.raises(FileNotFoundError) as missing:
        await fs.read_bytes("nothing")
    seen += [missing.value.errno, missing.value.filename]
    await fs.upload(folder / "up", "up")
    await fs.download("up", folder / "down")
    await fs.download_file("up/f", folder / "f")
    return [*seen, (folder / "f").read_text(), (folder / "down" / "f").read_text()]


def _folder(path: Path) -> Path:
    (path / "up").mkdir(parents=True)
    (path / "up" / "f").write_text("sent")
    return path


@pytest.mark.parametrize("recipe", [FakeBackend(), LocalBackend()], ids=["fake", "local"])
async def test_a_replay_is_what_was_recorded(recipe: Any, tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    async with Recorded(recipe, tape).sandbox() as sandbox:
        first = await _use(sandbox, _folder(tmp_path / "a"))
    nowhere = FakeBackend(faults=[Fault.CREATE_FAILS])
    async with Recorded(nowhere, tape).sandbox() as sandbox:
        again = await _use(sandbox, _folder(tmp_path / "b"))
        assert sandbox.backend == recipe.name
    assert again == first


async def _recorded(
    tape: Path, use: Callable[[Sandbox], Awaitable[object]], **options: Any
) -> None:
    async with Recorded(FakeBackend(**options), tape, mode="record").sandbox() as sandbox:
        await use(sandbox)


async def _two(sandbox: Sandbox) -> None:
    await sandbox.exec("echo one", env={"A": "1"})
    await sandbox.fs.write_text("f", "text")


async def test_a_difference_is_shown_as_a_diff(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    await _recorded(tape, _two)
    with pytest.raises(
        CassetteMismatch, match=r'(?s)tape.jsonl: another.*-  "echo one".*\+  "echo two"'
    ):
        async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
            await sandbox.exec("echo two", env={"A": "1"})
    with pytest.raises(CassetteMismatch, match=r'(?s)-  "A": "1".*\+  "A": "2"'):
        async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
            await sandbox.exec("echo one", env={"A": "2"})
    with pytest.raises(
        CassetteMismatch, match=r"1 recorded calls were not made, first:(?s:.*)write_by"
    ):
        async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
            await sandbox.exec("echo one", env={"A": "1"})
    with pytest.raises(
        CassetteMismatch, match=r'(?s)nothing more is recorded.*"argv".*record again'
    ):
        async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
            await _two(sandbox)
            await sandbox.exec("echo three")


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("local", {}, "backend='local': give a backend"),
        (FakeBackend(), {"cassette": 3}, "cassette=3: give"),
        (FakeBackend(), {"mode": 0}, "mode=0: give 'auto' or"),
        (FakeBackend(), {"strict": "no"}, "strict='no': give True or False"),
    ],
)
def test_values_of_other_types_are_refused(
    backend: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Recorded(backend, **{"cassette": "tape.jsonl", **options})


async def test_a_loose_replay_takes_any_order_and_any_environment(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    await _recorded(tape, _two)
    recipe = Recorded(FakeBackend(), tape, mode="replay", strict=False)
    for _ in range(2):
        async with recipe.sandbox() as sandbox:
            await sandbox.fs.write_text("f", "text")
            for number in range(3):
                assert (await sandbox.exec("echo one", env={"B": str(number)})).stdout == "one\n"
            with pytest.raises(CassetteMismatch, match=r'(?s)-  "echo one".*\+  "echo two"'):
                await sandbox.exec("echo two")


async def test_what_is_sent_to_a_process_has_to_be_the_same(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"

    async def talk(sandbox: Sandbox, said: bytes = b"hello\n") -> str:
        async with await sandbox.start("read x; echo $x") as process:
            await process.send(said)
            return (await process.wait()).stdout

    await _recorded(tape, talk)
    async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
        assert await talk(sandbox) == "hello\n"
    with pytest.raises(CassetteMismatch, match=r"send: recorded is .*hello"):
        async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
            await talk(sandbox, b"bye\n")


async def test_secrets_are_not_in_the_cassette_and_replay_needs_others_only(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"

    async def leak(sandbox: Sandbox) -> None:
        await sandbox.exec("echo $TOKEN; printf %s $TOKEN", on_output=lambda *_: None)
        halves = f"echo -n {SECRET[:9]}; sleep 0.05; echo {SECRET[9:]}"
        await sandbox.exec(halves, on_output=lambda *_: None)
        await sandbox.fs.write_text("f", f"token={sandbox.secrets['TOKEN']}")
        await sandbox.fs.read_text("f")

    await _recorded(tape, leak, secrets={"TOKEN": SECRET})
    events = [
        piece
        for line in map(json.loads, tape.read_text().splitlines())
        for piece in (line.get("answer") or {}).get("events", ())
    ]
    printed = "".join(piece[2]["$text"] for piece in events if piece[0] == "output")
    assert SECRET not in tape.read_text() + printed
    assert SECRET[9:] not in printed
    other = FakeBackend(secrets={"TOKEN": "another-secret-of-a-length"})
    async with Recorded(other, tape).sandbox() as sandbox:
        await sandbox.exec("echo $TOKEN; printf %s $TOKEN", on_output=lambda *_: None)
        await sandbox.exec(
            f"echo -n {SECRET[:9]}; sleep 0.05; echo {SECRET[9:]}", on_output=lambda *_: None
        )
        await sandbox.fs.write_text("f", "token=another-secret-of-a-length")
        assert "secret-of" not in await sandbox.fs.read_text("f")


async def test_errors_and_timeouts_come_again(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"

    async def fail(sandbox: Sandbox) -> None:
        with pytest.raises(CommandLost, match="did not arrive"):
            await sandbox.exec("lost")
        with pytest.raises(FileNotFoundError):
            await sandbox.exec("true", cwd="nowhere")
        with pytest.raises(ExecTimeout) as caught:
            await sandbox.exec("echo so far; sleep 100", timeout=0.1)
        assert caught.value.result.stdout == "so far\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await sandbox.exec("slow")
        with pytest.raises(Unsupported, match="chown"):
            await sandbox.fs.chown("f", 0)

    async def use(sandbox: Sandbox) -> None:
        with pytest.raises(Unsupported):
            await sandbox.url(80)
        await fail(sandbox)

    script = {"slow": Reply(after=1000), "lost": Reply()}
    faults = [FaultOrder(fault=Fault.COMMAND_LOST, on="lost")]
    await _recorded(tape, use, commands=script, faults=faults)
    async with Recorded(FakeBackend(), tape).sandbox() as sandbox:
        await use(sandbox)


@pytest.mark.parametrize("cut", [2, 30, 200])
async def test_a_torn_cassette_is_a_clear_error(tmp_path: Path, cut: int) -> None:
    tape = tmp_path / "tape.jsonl"
    await _recorded(tape, _two)
    whole = tape.read_bytes()
    tape.write_bytes(whole[:-cut])
    with pytest.raises(ConfigError, match=r"tape.jsonl.*record it again"):
        await Recorded(FakeBackend(), tape).create()
    lines = whole.splitlines(keepends=True)
    tape.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ConfigError, match=r"the end is missing after line 4; record it again"):
        await Recorded(FakeBackend(), tape).create()
    tape.write_bytes(b"".join([lines[0], b'{"sandbox": 7}\n', b'{"end": 2}\n']))
    with pytest.raises(ConfigError, match=r"tape.jsonl:2: not a call"):
        await Recorded(FakeBackend(), tape).create()


async def test_the_mode_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDOCK_CASSETTES", "replay")
    with pytest.raises(ConfigError, match="the cassette cannot be read"):
        await Recorded(FakeBackend(), tmp_path / "tape.jsonl").create()
    monkeypatch.setenv("PADDOCK_CASSETTES", "often")
    with pytest.raises(ConfigError, match="PADDOCK_CASSETTES='often'"):
        Recorded(FakeBackend(), tmp_path / "tape.jsonl")


async def test_setup_and_uploads_of_the_recipe_are_part_of_it(tmp_path: Path) -> None:
    tape, folder = tmp_path / "tape.jsonl", _folder(tmp_path / "a")
    recipe = FakeBackend(uploads=[(str(folder / "up"), "up")], setup=["cat up/f >copy"])
    async with Recorded(recipe, tape).sandbox() as sandbox:
        assert await sandbox.fs.read_text("copy") == "sent"
    async with Recorded(recipe, tape).sandbox() as sandbox:
        assert await sandbox.fs.read_text("copy") == "sent"
    (folder / "up" / "f").write_text("other")
    with pytest.raises(CassetteMismatch, match=r'(?s)-  "f": "644 .*\+  "f": "644 '):
        await Recorded(recipe, tape).create()
