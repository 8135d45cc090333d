"""Images of ours as Daytona takes them: a Dockerfile, and its files where the SDK looks."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.daytona.images import daytona_image
from paddock.errors import ConfigError
from paddock.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = Image.from_registry("debian:12")


def sent(native: Any, folder: Path) -> dict[str, str]:
    """What the SDK would upload of an image's contexts: names and, of files, what is in them."""
    found: dict[str, str] = {}
    for number, context in enumerate(native._context_list):
        archive = folder / f"{number}.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(context.source_path, arcname=context.archive_path)
        with tarfile.open(archive) as tar:
            found |= dict(_members(tar))
    return found


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in tar:
        content = tar.extractfile(member) if member.isfile() else None
        text = content.read().decode() if content else member.linkname or "/"
        yield member.name.removeprefix("./"), text


@pytest.mark.parametrize("image", ["debian:12", object()])
async def test_what_is_not_ours_is_left_as_it_is(image: Any) -> None:
    async with daytona_image(image) as native:
        assert native is image


async def test_the_verbs_become_the_dockerfile_they_are() -> None:
    image = (
        BASE.apt_install("git")
        .pip_install("httpx")
        .run_commands("echo 'a \"b\"'")
        .env({"A": "b c"})
        .workdir("/work")
        .user("nobody")
    )
    async with daytona_image(image) as native:
        assert native.dockerfile().strip() == image.dockerfile().strip()
        assert native._context_list == []


async def test_copied_files_are_where_the_sdk_looks_within_the_block(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "deep.txt").write_text("deep")
    (tree / "link").symlink_to("sub/deep.txt")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tmp_path / "one file.txt").write_text("one")
    image = BASE.add_local_file(tmp_path / "one file.txt", "/etc/one").add_local_dir(
        tree, "/srv/tree"
    )
    async with daytona_image(image) as native:
        files = sent(native, tmp_path)
        assert {name for name, _ in image.context()} <= files.keys()
        assert {"one", "deep", "sub/deep.txt", "#!/bin/sh\n"} <= set(files.values())
        sources = [Path(context.source_path) for context in native._context_list]
        executable = [path for source in sources for path in source.rglob("run.sh")]
        assert executable[0].stat().st_mode & 0o111
    assert not any(source.exists() for source in sources)


async def test_a_dockerfile_brings_its_context(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\nCOPY app /app\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print()")
    (tmp_path / "out").mkdir()
    async with daytona_image(Image.from_dockerfile(tmp_path / "Dockerfile")) as native:
        assert native.dockerfile().startswith("FROM debian:12\nCOPY app /app\n")
        assert sent(native, tmp_path / "out")["app/main.py"] == "print()"


@pytest.mark.parametrize("line", ["COPY . /app", "ADD app /app", "add app/main.py /app/"])
async def test_a_dockerfile_that_copies_all_or_adds_gets_its_context_and_no_more(
    line: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM debian:12\n{line}\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print()")
    image = Image.from_dockerfile(tmp_path / "Dockerfile")
    async with daytona_image(image) as native:
        assert native.dockerfile().strip() == image.dockerfile().strip()
        (tmp_path / "out").mkdir()
        found = sent(native, tmp_path / "out")
    assert found.keys() - {".", ""} == {"Dockerfile", "app", "app/main.py"}
    assert found["app/main.py"] == "print()"


async def test_steps_after_a_dockerfile_go_on_from_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM debian:12\nCOPY app.txt /app.txt\n")
    (root / "app.txt").write_text("theirs")
    (tmp_path / "more.txt").write_text("ours")
    image = (
        Image.from_dockerfile(root / "Dockerfile")
        .run_commands("echo more")
        .add_local_file(tmp_path / "more.txt", "/more.txt")
    )
    async with daytona_image(image) as native:
        text = native.dockerfile()
        assert text.count("FROM ") == 1  # the first is not built anywhere before
        assert text.index("COPY app.txt") < text.index("echo more") < text.index("/more.txt")
        assert {"theirs", "ours"} <= set(sent(native, tmp_path).values())


async def test_files_of_one_name_in_both_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "more.txt").write_text("ours")
    more = BASE.add_local_file(tmp_path / "more.txt", "/more.txt")
    ((name, _),) = more.context()
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("theirs")
    (root / "Dockerfile").write_text("FROM debian:12\n")
    image = Image.from_dockerfile(root / "Dockerfile").add_local_file(
        tmp_path / "more.txt", "/more.txt"
    )
    with pytest.raises(ConfigError, match="copied by the Dockerfile and by the steps"):
        async with daytona_image(image):
            pass
