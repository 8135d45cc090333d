"""The images that Paddock makes: what is in them, from where they come, and which are its own."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from paddock.backends.docker.images.bootstrap import DebianSource, import_debian
from paddock.backends.docker.images.build import build_recipe
from paddock.backends.docker.images.store import find_images, identity, list_images, remove_image
from paddock.errors import BuildFailed, ConfigError
from paddock.image import Image
from paddock.image.settings import BuildSettings
from tests.e2e.image_bench import PATIENCE, Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Paddock

pytestmark = pytest.mark.docker


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


@pytest.mark.timeout(240)
async def test_the_agent_image_has_the_paddock_that_runs_here(bench: Bench) -> None:
    from importlib.metadata import version

    known = BuildSettings.from_environment()
    reference = await build_recipe(bench.engine, "agent", settings=known, on_progress=bench.tell)
    tools = ("paddock", "uv", "pytest", "make", "g++", "curl", "less", "ps")
    program = " && ".join([*(f"{tool} --version" for tool in tools), "tmux -V"])
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


async def test_nothing_is_removed_where_one_name_is_none_or_several_images(
    bench: Bench, paddock: Paddock
) -> None:
    reference = await bench.ensure(bench.image)
    label = reference.partition(":")[2]
    other = f"paddock:{label}"
    await asyncio.to_thread(bench.engine.client.tag, reference, other)
    try:
        with pytest.raises(ConfigError, match=f"may be any of {reference}, {other}"):
            await remove_image(bench.engine, label)
        failed = await asyncio.to_thread(paddock, "image", "rm", other, "nonsense")
        assert (failed.returncode, failed.stdout) == (1, "")
    finally:
        assert await remove_image(bench.engine, other) == other
    assert await find_images(bench.engine, [label, reference]) == [reference]


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
