"""Dockerfiles in the manner of real ones are built as the docker CLI's own builders build them."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from paddock.backends.docker.images import builders
from paddock.backends.docker.images.store import identity, inspect
from paddock.errors import BuildFailed, ConfigError, Unsupported
from paddock.image import Image
from paddock.image import folder as build_folders
from tests.e2e.docker import reference
from tests.e2e.docker.dockerfiles import PROJECTS, Project
from tests.e2e.image_bench import PATIENCE

if TYPE_CHECKING:
    from tests.e2e.image_bench import Bench

pytestmark = pytest.mark.docker

CONFIG = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "OnBuild", "Shell", "StopSignal",
    "User", "Volumes", "WorkingDir",
)  # fmt: skip
SECRET = "hunter2-of-the-build"


def image_of(project: Project, folder: Path) -> Image:
    return Image.from_dockerfile(
        folder / project.dockerfile,
        context=folder,
        target=project.target,
        build_args=project.build_args,
        secrets=project.secrets,
    )


async def theirs(bench: Bench, builder: str, project: Project, folder: Path) -> str:
    options = [f"--file={folder / project.dockerfile}"]
    options += [f"--target={project.target}"] if project.target else []
    options += [f"--build-arg={name}={value}" for name, value in project.build_args.items()]
    options += [f"--secret=id={name},type=env,env=SECRET_{name}" for name in project.secrets]
    env = {f"SECRET_{name}": value for name, value in project.secrets.items()}
    return await reference.build(builder, folder, *options, env=env)


async def config(bench: Bench, image: str) -> dict[str, Any]:
    found = await inspect(bench.engine, image)
    assert found is not None
    labels = found["Config"]["Labels"] or {}
    own = {name: value for name, value in labels.items() if not name.startswith("dev.paddock.")}
    return {name: found["Config"].get(name) or None for name in CONFIG} | {"Labels": own}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
async def test_a_real_project_is_built_as_the_docker_cli_builds_it(
    bench: Bench, tmp_path: Path, project: Project
) -> None:
    project.write(tmp_path)
    told = await bench.engine.call("asking for the version", bench.engine.client.version)
    if builders.numbers_of(told["Version"]) < project.engine:
        with pytest.raises(Unsupported, match="needs BuildKit of Docker Engine"):
            await bench.ensure(image_of(project, tmp_path))
        return
    ours = await bench.ensure(image_of(project, tmp_path))
    where = project.where.split()
    mine = await reference.tree(bench.engine, ours, *where)
    assert len(mine) > 3
    for builder in reference.BUILDERS if project.classic else ("BuildKit",):
        image = await theirs(bench, builder, project, tmp_path)
        try:
            assert await reference.tree(bench.engine, image, *where) == mine, builder
            if builder == "BuildKit":  # the classic builder has other defaults
                assert await config(bench, image) == await config(bench, ours)
        finally:
            await reference.remove(bench.engine, image)


async def test_triggers_of_an_image_run_in_what_begins_with_it(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        f"FROM {bench.base}\nWORKDIR /agent\nONBUILD COPY requirements.txt .\n"
        f"ONBUILD RUN wc -l < requirements.txt > wanted\nENV UNIQUE={uuid4().hex}\n"
    )
    base = await bench.ensure(Image.from_dockerfile(path))
    path.write_text("ARG BASE\nFROM $BASE\nRUN cat wanted\n")
    (tmp_path / "requirements.txt").write_text("a\nb\n")
    child = await bench.ensure(Image.from_dockerfile(path, build_args={"BASE": base}))
    assert await bench.run(child, "cat", "/agent/wanted") == "2\n"
    with pytest.raises(BuildFailed, match=r"requirements\.txt"):
        await bench.ensure(Image.from_registry(base).run_commands("true"))


async def test_a_secret_is_read_by_its_step_and_is_nowhere_else(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.base}\n"
        f"ENV NOT_CACHED={uuid4().hex}\n"
        "RUN --mount=type=secret,id=text --mount=type=secret,id=file,target=/file \\\n"
        "    cat /run/secrets/text /file && cat /run/secrets/text /file | wc -c > /size\n"
    )
    (tmp_path / "a, b").write_text(f"{SECRET}-in-a-file")
    secrets: dict[str, str | Path] = {"text": SECRET, "file": tmp_path / "a, b"}
    image = Image.from_dockerfile(tmp_path / "Dockerfile", secrets=secrets)
    assert SECRET not in repr(image)
    assert image.digest() == Image.from_dockerfile(tmp_path / "Dockerfile").digest()
    reference_ = await bench.ensure(image)
    assert await bench.run(reference_, "cat", "/size") == f"{2 * len(SECRET) + 10}\n"
    told = "\n".join(map(str, bench.told))
    assert SECRET not in told
    assert "[secret of the build]" in told
    found = await inspect(bench.engine, reference_)
    history = await asyncio.to_thread(bench.engine.client.history, reference_)
    assert SECRET not in str(found) + str(history)


async def test_a_step_that_fails_says_so_without_the_secret(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.base}\nRUN --mount=type=secret,id=s cat /run/secrets/s; exit 7\n"
    )
    image = Image.from_dockerfile(tmp_path / "Dockerfile", secrets={"s": SECRET})
    with pytest.raises(BuildFailed) as caught:
        await bench.ensure(image)
    assert caught.value.step.startswith("RUN --mount=type=secret")
    assert "exit code: 7" in caught.value.reason
    assert "[secret of the build]" in caught.value.output
    assert SECRET not in str(caught.value)


async def test_a_cancelled_build_ends_on_the_engine_and_leaves_no_files(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    context = tmp_path / "context"
    context.mkdir()
    marker = uuid4().hex
    (context / "Dockerfile").write_text(
        f"FROM {bench.base}\nRUN echo begun-{marker}; sleep 600; echo {marker}\n"
    )
    image = Image.from_dockerfile(context / "Dockerfile")
    task = asyncio.create_task(bench.ensure(image))
    await bench.heard(f"begun-{marker}")
    assert list(temporary.iterdir())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(temporary.iterdir())
    async with asyncio.timeout(PATIENCE):
        while _runs(marker):  # noqa: ASYNC110 - the engine is another process
            await asyncio.sleep(0.05)
    assert await identity(bench.engine, image.reference()) is None


def _runs(marker: str) -> bool:
    """Whether a process of this machine has `marker` in its command."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes():
                return True
    return False


def test_a_copy_of_a_context_is_removed_whatever_may_be_written_in_it(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o500)
    folder = tmp_path / "copy"
    (folder / "context/locked").mkdir(parents=True)
    (folder / "context/locked/file").touch(0o400)
    (folder / "context/link").symlink_to(tmp_path / "outside")
    (folder / "context/locked").chmod(0o500)
    build_folders._remove(folder)
    assert not folder.exists()
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o500


async def test_a_file_that_changes_stops_a_build(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {bench.base}\nCOPY a /\n")
    (tmp_path / "a").write_text("before")
    bundle = Image.from_dockerfile(tmp_path / "Dockerfile").bundle()
    (tmp_path / "a").write_text("after!")
    monkeypatch.setattr(Image, "bundle", lambda self: bundle)
    with pytest.raises(ConfigError, match="was changed while the image was being built"):
        await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile"))
    assert await identity(bench.engine, bundle.reference) is None


async def test_a_secret_whose_file_is_missing_is_a_config_error(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {bench.base}\n")
    secrets = {"s": tmp_path / "missing"}
    with pytest.raises(ConfigError, match=r"the secret s: .*missing: No such file"):
        await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile", secrets=secrets))


async def test_what_the_engine_cannot_do_is_one_error_before_anything_is_built(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def old(engine: object) -> str:
        return "20.10.24"

    monkeypatch.setattr(builders, "_docker_version", old)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {bench.base}\nRUN <<EOF\ntrue\nEOF\nCOPY --link --parents x y\n"
    )
    image = Image.from_dockerfile(tmp_path / "Dockerfile")
    with pytest.raises(Unsupported) as caught:
        await bench.ensure(image)
    own = "or newer; this engine is 20.10.24"
    assert str(caught.value).splitlines()[1:] == [
        f"line 2: RUN with a heredoc (<<EOF) needs BuildKit of Docker Engine 23.0 {own}",
        f"line 5: COPY --link needs BuildKit of Docker Engine 23.0 {own}",
        f"line 5: COPY --parents needs BuildKit of Docker Engine 29.1 {own}",
    ]
    assert bench.told == []
    assert await identity(bench.engine, image.reference()) is None


async def test_another_engine_is_not_trusted_with_secrets_that_it_would_ignore(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}
    monkeypatch.setattr(type(bench.engine.client), "version", lambda self: told)
    (tmp_path / "Dockerfile").write_text(f"FROM {bench.base}\nENV UNIQUE={uuid4().hex}\n")
    with pytest.raises(Unsupported, match="secrets= and platform= on an engine"):
        await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile", secrets={"s": SECRET}))
    await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile"))


async def test_a_frontend_that_cannot_be_pulled_is_one_error_before_anything_is_built(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"# syntax=localhost:1/docker/dockerfile:1\nFROM {bench.base}\nCOPY --link x y\n"
    )
    with pytest.raises(Unsupported) as caught:
        await bench.ensure(Image.from_dockerfile(tmp_path / "Dockerfile"))
    said = str(caught.value)
    assert "line 1: # syntax=localhost:1/docker/dockerfile:1 makes BuildKit pull" in said
    assert "line 3: COPY --link needs BuildKit of Docker Engine 23.0" in said
    assert "without line 1, Docker Engine" in said
    assert bench.told == []


async def test_without_a_docker_cli_plain_files_are_built_and_others_say_what_to_install(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM {bench.base} AS a\nRUN echo 1 > /a\nFROM a\nRUN rm /a\n")
    image = await bench.ensure(Image.from_dockerfile(path, target="a"))
    assert await bench.run(image, "cat", "/a") == "1\n"
    for kind in ("secrets", "platform", "mount"):
        secrets = {"s": SECRET} if kind == "secrets" else None
        platform = "linux/amd64" if kind == "platform" else None
        if kind == "mount":
            path.write_text(f"FROM {bench.base}\nRUN --mount=type=tmpfs,target=/x true\n")
        with pytest.raises(Unsupported, match=r"needs BuildKit[^;]*; .*install docker\.io"):
            await bench.ensure(Image.from_dockerfile(path, secrets=secrets, platform=platform))
