"""Images on a real engine: built once, told of, cancelled, made from Debian packages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from paddock.backends.docker.bootstrap import DebianSource, import_debian
from paddock.backends.docker.build import BuildSettings, build_recipe, ensure
from paddock.backends.docker.engine import Engine, EngineError
from paddock.backends.docker.progress import ImageProgress, Output, Step, Transfer
from paddock.backends.docker.store import identity, list_images, remove_image, remove_unnamed
from paddock.errors import BuildFailed, ConfigError
from paddock.image import Image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.e2e.conftest import Paddock

pytestmark = pytest.mark.docker

PATIENCE = 30
LAYER = re.compile(r" ---> ([0-9a-f]{12})")


@dataclass
class Bench:
    """The engine, what was told, and what has to be removed at the end."""

    engine: Engine
    base: str
    told: list[ImageProgress] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    awaited: str = ""
    found: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def image(self) -> Image:
        """An image that no other test, and no earlier one, has built."""
        return Image.from_registry(self.base).env({"UNIQUE": uuid4().hex})

    def tell(self, event: ImageProgress) -> None:
        self.told.append(event)
        if self.awaited and isinstance(event, Output) and self.awaited in event.line:
            self.found.set()

    async def ensure(self, image: Image | str) -> str:
        if isinstance(image, Image):
            self.made.add(await asyncio.to_thread(image.reference))
            if image.parent is not None:
                self.made.add(await asyncio.to_thread(image.parent.reference))
        return await ensure(self.engine, image, on_progress=self.tell)

    async def run(self, image: str, *command: str) -> str:
        """What a command prints in a container of the image."""
        client = self.engine.client
        created = await asyncio.to_thread(client.create_container, image, list(command))
        try:
            await asyncio.to_thread(client.start, created["Id"])
            ended = await asyncio.to_thread(client.wait, created["Id"], timeout=PATIENCE)
            output: bytes = await asyncio.to_thread(client.logs, created["Id"])
        finally:
            await asyncio.to_thread(client.remove_container, created["Id"], force=True)
        assert ended["StatusCode"] == 0, output.decode()
        return output.decode()

    async def running(self, marker: str) -> list[str]:
        """Containers, ended ones too, whose command holds `marker`."""
        found = await asyncio.to_thread(self.engine.client.containers, all=True, trunc=False)
        return [each["Id"] for each in found if marker in each["Command"]]

    async def heard(self, text: str) -> None:
        """Wait until a line of output holds `text`."""
        self.awaited = text
        await asyncio.wait_for(self.found.wait(), PATIENCE)

    async def tidy(self) -> None:
        before = {info.id for info in await list_images(self.engine)}
        for reference in self.made:
            if await identity(self.engine, reference):
                await remove_image(self.engine, reference)
        for event in reversed(self.told):
            match = LAYER.fullmatch(event.line) if isinstance(event, Output) else None
            if match and not any(match[1] in identity for identity in before):
                await remove_unnamed(self.engine, match[1])


@pytest.fixture
async def bench(base_image: str) -> AsyncIterator[Bench]:
    bench = Bench(await Engine.connect(), base_image)
    yield bench
    await bench.tidy()
    left = {info.reference for info in await list_images(bench.engine)}
    assert not left & bench.made


def steps(told: list[ImageProgress]) -> list[str]:
    return [event.instruction for event in told if isinstance(event, Step)]


async def test_every_verb_does_what_it_says(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "it's a [file]").write_text("content")
    (tmp_path / "script").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "script").chmod(0o755)
    hard = "a \"b\" 'c' $HOME ${X:-y} \\ \\n `d` # é"
    image = (
        bench.image.env({"HARD": hard, "EMPTY": ""})
        .workdir("/work/in $HOME")
        .add_local_dir(tmp_path, "/copied $X/dir", ignore=["script"])
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
    "copied": os.listdir("/copied"), "ran": os.popen("'./it'\\\\''s relative'").read(),
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


async def test_processes_wait_for_one_another_s_build(bench: Bench) -> None:
    unique = {"UNIQUE": uuid4().hex}
    image = Image.from_registry(bench.base).env(unique).run_commands("sleep 1")
    program = f"""
import asyncio
from paddock.backends.docker.build import ensure
from paddock.backends.docker.engine import Engine
from paddock.backends.docker.progress import Step
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


async def test_all_who_wait_for_a_build_share_its_error(bench: Bench) -> None:
    image = bench.image.run_commands("exit 1")
    results = await asyncio.gather(*(bench.ensure(image) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, BuildFailed) for result in results)
    assert sum(step.startswith("FROM") for step in steps(bench.told)) == 3


async def test_what_no_registry_has_names_the_way_out(bench: Bench) -> None:
    name = "localhost:1/nobody/nothing:1"
    with pytest.raises(EngineError, match="paddock image bootstrap"):
        await bench.ensure(name)
    with pytest.raises(BuildFailed, match="paddock image bootstrap") as caught:
        await bench.ensure(Image.from_registry(name).workdir("/x"))
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


async def test_uv_installs_what_the_lock_says(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["iniconfig==2.0.0"]\n'
    )
    (tmp_path / "uv.lock").write_text(LOCK)
    image = Image.from_registry("paddock:python").env({"UNIQUE": uuid4().hex}).uv_sync(tmp_path)
    reference = await bench.ensure(image)
    program = "import iniconfig, sys; print(iniconfig.__file__, sys.prefix)"
    output = await bench.run(reference, "python3", "-c", program)
    assert output.split()[1] == "/opt/environment"


LOCK = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "iniconfig"
version = "2.0.0"
source = { registry = "https://pypi.org/simple" }
sdist = { url = "https://files.pythonhosted.org/packages/d7/4b/cbd8e699e64a6f16ca3a8220661b5f83792b3017d0f79807cb8708d33913/iniconfig-2.0.0.tar.gz", hash = "sha256:2d91e135bf72d31a410b17c16da610a82cb55f6b0477d1a902134b24a455b8b3", size = 4646 }
wheels = [
    { url = "https://files.pythonhosted.org/packages/ef/a6/62565a6e1cf69e10f5727360368e451d4b7f58beeac6173dc9db836a5b46/iniconfig-2.0.0-py3-none-any.whl", hash = "sha256:b6a85871a79d2e3b22d2d1b94ac2824226a63c6b741c88f7ae975f18b6778374", size = 5892 },
]

[[package]]
name = "x"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "iniconfig" }]

[package.metadata]
requires-dist = [{ name = "iniconfig", specifier = "==2.0.0" }]
"""  # noqa: E501


async def test_the_agent_image_has_the_paddock_that_runs_here(bench: Bench) -> None:
    from importlib.metadata import version

    known = BuildSettings.from_environment()
    reference = await build_recipe(bench.engine, "agent", known, bench.tell)
    tools = ("paddock", "uv", "pytest", "make", "g++")
    program = " && ".join(f"{tool} --version" for tool in tools)
    output = await bench.run(reference, "sh", "-c", program)
    assert output.startswith(f"paddock {version('paddock')}\n")


async def test_only_images_of_ours_are_listed_and_removed(bench: Bench) -> None:
    reference = await bench.ensure(bench.image)
    other = f"paddock-test:{uuid4().hex}"
    client = bench.engine.client
    await asyncio.to_thread(client.tag, reference, other)
    try:
        listed = {info.reference: info for info in await list_images(bench.engine)}
        assert listed[reference].label == reference.partition(":")[2]
        assert other not in listed
        with pytest.raises(ConfigError, match="no image that Paddock made"):
            await remove_image(bench.engine, other)
        assert await remove_image(bench.engine, listed[reference].label) == reference
        assert await identity(bench.engine, reference) is None
        assert await identity(bench.engine, other) is not None
    finally:
        await asyncio.to_thread(client.remove_image, other)


async def test_the_base_has_what_it_promises_and_nothing_of_its_maker(bench: Bench) -> None:
    program = "git --version; rg --version; python -m venv /tmp/v; python -m pip --version; ps"
    output = await bench.run(bench.base, "sh", "-ec", program)
    assert output.startswith("git version ")
    assert "pkgcache" not in await bench.run(bench.base, "ls", "/var/cache/apt")
    (info,) = [each for each in await list_images(bench.engine) if each.reference == bench.base]
    assert info.label == "base"
    assert info.size < 400e6


def names_of_children() -> set[str]:
    lists = Path("/proc/self/task").glob("*/children")
    children = [child for text in lists for child in text.read_text().split()]
    return {Path(f"/proc/{child}/comm").read_text().strip() for child in children}


def needs_mmdebstrap(require: Callable[[str, object, str], None]) -> None:
    require("docker", shutil.which("mmdebstrap"), "mmdebstrap is not installed")


async def test_a_bootstrap_that_fails_says_what_mmdebstrap_said(
    bench: Bench, require: Callable[[str, object, str], None], tmp_path: Path
) -> None:
    needs_mmdebstrap(require)
    before = await identity(bench.engine, "paddock:debian")
    source = DebianSource(mirror=f"file://{tmp_path}")
    with pytest.raises(BuildFailed, match="mmdebstrap") as caught:
        await import_debian(bench.engine, source, bench.tell)
    assert "E: " in caught.value.output
    assert await identity(bench.engine, "paddock:debian") == before


async def test_a_cancelled_bootstrap_ends_mmdebstrap_and_imports_nothing(
    bench: Bench, require: Callable[[str, object, str], None]
) -> None:
    needs_mmdebstrap(require)
    before = await identity(bench.engine, "paddock:debian")
    begun = asyncio.Event()
    task = asyncio.create_task(
        import_debian(bench.engine, DebianSource(), lambda event: begun.set())
    )
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "mmdebstrap" not in names_of_children()
    assert await identity(bench.engine, "paddock:debian") == before


async def test_a_machine_without_mmdebstrap_is_told_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="apt-get install mmdebstrap"):
        await import_debian(bench.engine, DebianSource(), bench.tell)


async def test_transfers_tell_how_far_they_are(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    await bench.ensure(bench.image.add_local_file(tmp_path / "big", "/big"))
    sent = [event for event in bench.told if isinstance(event, Transfer)]
    assert sent[-1].done == sent[-1].total
    assert sent[-1].done > 3_000_000


def test_the_command_line_builds_lists_and_removes(base_image: str, paddock: Paddock) -> None:
    built = paddock("image", "build", "base")
    assert built.returncode == 0, built.stderr
    assert built.stdout == f"{base_image}\n"
    assert "paddock:base: 1/" in built.stderr
    listed = paddock("image", "list", "--json")
    assert base_image in {each["reference"] for each in json.loads(listed.stdout)}
    assert base_image in paddock("image", "list").stdout
    failed = paddock("image", "rm", "nonsense")
    assert failed.returncode == 1
    assert failed.stderr == "paddock: nonsense: no image that Paddock made has this name\n"
