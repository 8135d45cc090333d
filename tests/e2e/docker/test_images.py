"""Images on a real engine: built once, told of, cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images.store import identity
from paddock.backends.images import Transfer
from paddock.errors import BuildFailed, ConfigError
from paddock.image import Image
from tests.e2e.image_bench import PATIENCE, Bench, steps

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.docker


async def test_every_verb_does_what_it_says(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "it's a [file]").write_text("content")
    (tmp_path / "script").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "empty").mkdir()
    hard = "a \"b\" 'c' $HOME ${X:-y} \\ \\n `d` # é"
    image = (
        bench.image.env({"HARD": hard, "EMPTY": ""})
        .workdir("/work/in $HOME")
        .add_local_dir(tmp_path, "/copied $X/dir", ignore=["script", "empty"])
        .add_local_dir(tmp_path / "empty", "/empty")
        .add_local_file(tmp_path / "it's a [file]", "/copied/")
        .add_local_file(tmp_path / "script", "it's relative")
        .run_commands(f"printf '%s' '{hard.replace(chr(39), '')}' > /tmp/said\n# comment \\")
        .user("nobody")
    )
    reference = await bench.ensure(image)
    program = """
import json, os
print(json.dumps({
    "hard": os.environ["HARD"], "empty": os.environ["EMPTY"], "cwd": os.getcwd(),
    "said": open("/tmp/said").read(), "dir": os.listdir("/copied $X/dir"),
    "copied": os.listdir("/copied"), "nothing": os.listdir("/empty"),
    "ran": os.popen("'./it'\\\\''s relative'").read(),
    "uid": os.getuid(),
}))
"""
    assert json.loads(await bench.run(reference, "python3", "-c", program)) == {
        "hard": hard,
        "empty": "",
        "cwd": "/work/in $HOME",
        "said": hard.replace("'", ""),
        "dir": ["it's a [file]"],
        "copied": ["it's a [file]"],
        "nothing": [],
        "ran": "ran\n",
        "uid": 65534,
    }


async def test_an_image_is_built_once_for_all_who_want_it(bench: Bench) -> None:
    image = bench.image.run_commands("cat /proc/sys/kernel/random/uuid > /made")
    references = await asyncio.gather(*(bench.ensure(image) for _ in range(5)))
    assert len(set(references)) == 1
    # Each of the five heard of the one build.
    assert sum(step.startswith("FROM") for step in steps(bench.told)) == 5
    made = await identity(bench.engine, references[0])
    bench.told.clear()
    assert await bench.ensure(image) == references[0]
    assert bench.told == []
    assert await identity(bench.engine, references[0]) == made


async def test_an_image_is_built_again_on_what_has_its_base_s_name_now(bench: Bench) -> None:
    name = f"paddock-test-base-{uuid4().hex}:1"
    repository, _, tag = name.partition(":")
    image = Image.from_registry(name).run_commands("cp /which /copied")
    built = []
    for number in ("1", "2"):
        base = await bench.ensure(bench.image.run_commands(f"echo {number} > /which"))
        await bench.engine.call("naming", bench.engine.client.tag, base, repository, tag)
        try:
            assert await bench.ensure(Image.from_registry(name)) == name
            assert await bench.run(name, "cat", "/which") == f"{number}\n"
            reference = await bench.ensure(image)
            assert await bench.run(reference, "cat", "/copied") == f"{number}\n"
            built.append(await identity(bench.engine, reference))
            bench.told.clear()
            await bench.ensure(image)
            assert bench.told == []
        finally:
            await bench.engine.call("removing", bench.engine.client.remove_image, name)
        assert await bench.ensure(image) == reference  # as it is, where its base is gone
    assert await identity(bench.engine, str(built[0])) is None


async def test_processes_wait_for_one_another_s_build(bench: Bench) -> None:
    unique = {"UNIQUE": uuid4().hex}
    image = Image.from_registry(bench.base).env(unique).run_commands("sleep 1")
    program = f"""
import asyncio
from paddock.backends.docker.images.build import ensure
from paddock.backends.docker.engine.client import Engine
from paddock.backends.images import Step
from paddock.image import Image

async def main():
    told = []
    image = Image.from_registry({bench.base!r}).env({unique!r})
    await ensure(await Engine.connect(), image.run_commands("sleep 1"), on_progress=told.append)
    print(sum(isinstance(event, Step) for event in told) > 0)

asyncio.run(main())
"""
    bench.made.add(image.reference())
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert sorted(output.decode().strip() for output, _ in outputs) == ["False", "False", "True"]


async def test_a_failing_step_is_named_with_its_last_lines(bench: Bench) -> None:
    image = bench.image.run_commands("true").run_commands("echo so far; echo so bad >&2; exit 7")
    with pytest.raises(BuildFailed) as caught:
        await bench.ensure(image)
    assert caught.value.step == "RUN echo so far; echo so bad >&2; exit 7"
    assert "returned a non-zero code: 7" in caught.value.reason
    # An engine does not keep the order of a step's two streams.
    assert sorted(caught.value.output.splitlines()[-2:]) == ["so bad", "so far"]
    assert caught.value.hint is None
    assert not await bench.running("so far; echo so bad")


async def test_a_dockerfile_that_cannot_be_read_is_a_build_that_failed(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {bench.base}\nNOSUCH x\n")
    with pytest.raises(BuildFailed) as caught:
        await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile"))
    assert caught.value.step == "(before the first step)"
    assert "line 2: unknown instruction" in caught.value.reason


async def test_all_who_wait_for_a_build_share_its_error(bench: Bench) -> None:
    image = bench.image.run_commands("exit 1")
    results = await asyncio.gather(*(bench.ensure(image) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, BuildFailed) for result in results)
    assert sum(step.startswith("FROM") for step in steps(bench.told)) == 3


async def test_what_no_registry_has_names_the_way_out(bench: Bench, tmp_path: Path) -> None:
    name = "localhost:1/nobody/nothing:1"
    image = Image.from_registry(name)
    for wanted in (name, image, image.workdir("/x")):
        with pytest.raises(EngineError, match="paddock image bootstrap"):
            await bench.ensure(wanted)
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\n")
    with pytest.raises(BuildFailed, match="paddock image bootstrap") as caught:
        await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile"))
    assert caught.value.step == f"FROM {name}"
    with pytest.raises(ConfigError, match="agent, base, python"):
        await bench.ensure("paddock:nonsense")


async def test_a_cancelled_build_ends_on_the_engine_too(bench: Bench) -> None:
    marker = uuid4().hex
    image = bench.image.run_commands(f"echo begun-{marker}; sleep 600")
    task = asyncio.create_task(bench.ensure(image))
    await bench.heard(f"begun-{marker}")
    assert await bench.running(marker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE):
        while await bench.running(marker):  # noqa: ASYNC110 - the engine is another process
            await asyncio.sleep(0.05)
    assert await identity(bench.engine, image.reference()) is None


async def test_a_build_goes_on_while_somebody_waits_for_it(bench: Bench) -> None:
    marker = uuid4().hex
    image = bench.image.run_commands(f"echo begun-{marker}; sleep 1")
    first, second = (asyncio.create_task(bench.ensure(image)) for _ in range(2))
    await bench.heard(f"begun-{marker}")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == image.reference()
    assert sum("begun" in step for step in steps(bench.told)) == 2


async def test_a_file_that_changes_stops_the_build(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    image = bench.image.add_local_file(path, "/file")
    bundle = image.bundle()
    path.write_text("after!")
    monkeypatch.setattr(Image, "bundle", lambda self: bundle)
    with pytest.raises(ConfigError, match="was changed while the image was being built"):
        await bench.ensure(image)
    assert await identity(bench.engine, bundle.reference) is None


async def test_steps_build_on_a_dockerfile_which_hides_itself(bench: Bench, tmp_path: Path) -> None:
    context = tmp_path / "app"
    (context / "deep").mkdir(parents=True)
    for name in ("kept", "deep/dropped.log", "deep/kept.log"):
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("**/*.log\n!deep/kept.log\n.dockerignore\n")
    (tmp_path / "x.Dockerfile").write_text(f"FROM {bench.base}\nCOPY . /app\nENV X={uuid4().hex}\n")
    image = Image.from_dockerfile(tmp_path / "x.Dockerfile", context).workdir("/app")
    reference = await bench.ensure(image)
    assert sorted((await bench.run(reference, "find", ".", "-type", "f")).split()) == [
        "./deep/kept.log",
        "./kept",
    ]


async def test_transfers_tell_how_far_they_are(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    await bench.ensure(bench.image.add_local_file(tmp_path / "big", "/big"))
    sent = [event for event in bench.told if isinstance(event, Transfer)]
    assert sent[-1].done == sent[-1].total
    assert sent[-1].done > 3_000_000
