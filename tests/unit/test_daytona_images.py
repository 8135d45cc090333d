"""Images of ours as Daytona takes them: a Dockerfile, and its files where the SDK looks."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.daytona.archives import ARCHIVE, unpacking
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
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tmp_path / "one file.txt").write_text("one")
    image = BASE.add_local_file(tmp_path / "one file.txt", "/etc/one").add_local_dir(
        tree, "/srv/tree"
    )
    async with daytona_image(image) as native:
        files = sent(native, tmp_path)
        assert {name for name, _ in image.context()} <= files.keys()
        assert {"one", "deep", "#!/bin/sh\n"} <= set(files.values())
        sources = [Path(context.source_path) for context in native._context_list]
        executable = [path for source in sources for path in source.rglob("run.sh")]
        assert executable[0].stat().st_mode & 0o111
    assert not any(source.exists() for source in sources)


async def test_a_dockerfile_brings_its_context(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\nCOPY app /app\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print()")
    async with daytona_image(Image.from_dockerfile(tmp_path / "Dockerfile")) as native:
        (tmp_path / "out").mkdir()
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


@pytest.mark.parametrize("own", [True, False], ids=["dockerfile", "steps"])
async def test_links_and_empty_directories_travel_in_an_archive(own: bool, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "app" / "empty").mkdir(parents=True)
    (root / "app" / "run.sh").write_text("#!/bin/sh\n")
    (root / "app" / "run.sh").chmod(0o755)
    (root / "app" / "link").symlink_to("run.sh")
    (root / "Dockerfile").write_text("ARG V=12\nFROM debian:${V}\nCOPY app /app\n")
    image = Image.from_dockerfile(root / "Dockerfile")
    if not own:
        image = BASE.add_local_dir(root / "app", "/app")
    async with daytona_image(image) as native:
        (context,) = native._context_list
        assert os.listdir(context.source_path) == [ARCHIVE]
        with tarfile.open(Path(context.source_path) / ARCHIVE) as tar:
            found = {member.name: member for member in tar}
        text = native.dockerfile()
    (below,) = {name.removesuffix("/link") for name in found if name.endswith("/link")}
    assert found[f"{below}/link"].linkname == "run.sh"
    assert found[f"{below}/empty"].isdir()
    assert found[f"{below}/run.sh"].mode & 0o111
    stage, _, rest = text.partition(f"ADD {ARCHIVE} /\n")
    assert stage.endswith("FROM scratch AS paddock-context\n")
    assert "COPY --from=paddock-context " in rest


async def test_an_archive_is_the_same_whenever_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "link").symlink_to("nowhere")
    digests = set()
    for seconds in (1, 1_000_000):
        os.utime(tmp_path / "app" / "link", (seconds, seconds), follow_symlinks=False)
        async with daytona_image(BASE.add_local_dir(tmp_path / "app", "/app")) as native:
            (context,) = native._context_list
            digests.add((Path(context.source_path) / ARCHIVE).read_bytes())
    assert len(digests) == 1


DOCKERFILE = """\
# syntax=docker/dockerfile:1
FROM debian AS one
COPY --chown=1:1 \\
   # said between
   a b /x/
RUN --mount=type=bind,source=q,target=/q cat <<EOF
COPY not this
podman run --mount=type=bind,source=q,target=/q
EOF
FROM debian
COPY --from=0 /x /y
COPY --from=one /x /y
add x.tar.gz /z
ADD https://a.example/b /c
Add f /g
COPY <<END /h
COPY me
END
"""
UNPACKED = """\
# syntax=docker/dockerfile:1
FROM scratch AS paddock-context
ADD paddock-context.tar /
FROM debian AS one
COPY --from=paddock-context --chown=1:1 \\
   # said between
   a b /x/
RUN --mount=type=bind,source=q,target=/q,from=paddock-context cat <<EOF
COPY not this
podman run --mount=type=bind,source=q,target=/q
EOF
FROM debian
COPY --from=1 /x /y
COPY --from=one /x /y
add x.tar.gz /z
ADD https://a.example/b /c
COPY --from=paddock-context f /g
COPY <<END /h
COPY me
END
"""


def test_every_instruction_that_copies_from_the_context_copies_from_the_archive() -> None:
    assert unpacking(DOCKERFILE) == (UNPACKED, True)  # for what ADD unpacks
    assert not unpacking("FROM debian\nADD f /g\n")[1]
