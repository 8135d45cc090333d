"""The project file and the options of a command, as they meet in a backend's recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import typer

from paddock import ConfigError, DockerBackend, Image, LocalBackend, Unsupported
from paddock.backends import base
from paddock.backends.uv import install_command, require_command
from paddock.cli.recipes import make_backend
from paddock.cli.sandbox_options import SandboxOptions
from paddock.transfers import DEFAULT_IGNORE
from tests.unit.cli.project_files import write

if TYPE_CHECKING:
    from paddock.backends.base import Backend, ProgressCallback
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.rows("S-58")


@dataclass(frozen=True, kw_only=True)
class Cloud(base.Backend):
    """A backend elsewhere, with fields that those of this machine lack."""

    name: ClassVar[str] = "cloud"
    default_working_dir: ClassVar[str | None] = "/home/cloud"
    image: str | Image = "some"
    snapshot: str | None = None
    uv_version: str | None = None

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        raise AssertionError("nothing is made here")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes `Cloud` every backend; the names that were asked for."""
    asked: list[str] = []

    def get(name: str) -> type[Backend]:
        asked.append(name)
        return Cloud

    monkeypatch.setattr(base, "get_backend", get)
    return asked


def test_without_a_file_nothing_is_added(root: Path) -> None:
    assert make_backend(SandboxOptions()) == LocalBackend()
    assert make_backend(SandboxOptions(backend="docker")) == DockerBackend()


def test_the_project_is_put_below_the_default_directory_and_worked_in(root: Path) -> None:
    project = write(root, "")
    assert make_backend(SandboxOptions(backend="docker"), project=project) == DockerBackend(
        working_dir="/workspace/app", uploads=[(str(root), "/workspace/app")]
    )


def test_a_fresh_directory_of_this_machine_is_the_projects(root: Path) -> None:
    assert make_backend(SandboxOptions(backend="local"), project=write(root, "")) == LocalBackend(
        uploads=[(str(root), ".")]
    )


@pytest.mark.parametrize(
    ("working_dir", "place"),
    [
        ("/srv/it", "/srv/it"),
        ("/workspace/app", "/workspace/app"),
        ("/workspace/app/src", "/workspace/app"),
        ("/workspace/app2", "/workspace/app2"),
    ],
)
def test_the_working_directory_holds_the_project_or_is_in_it(
    root: Path, working_dir: str, place: str
) -> None:
    project = write(root, f'[sandbox]\nworking_dir = "{working_dir}"')
    recipe = make_backend(SandboxOptions(backend="docker"), project=project)
    assert (recipe.working_dir, recipe.uploads) == (working_dir, ((str(root), place),))


def test_uploads_that_are_given_replace_that_of_the_project(root: Path) -> None:
    project = write(root, "")
    for name in ("local", "docker"):
        recipe = make_backend(
            SandboxOptions(backend=name, upload=[f"{root}:there"]), project=project
        )
        assert (recipe.uploads, recipe.working_dir) == (((str(root), "there"),), None)


def test_into_a_directory_of_this_machine_that_is_given_nothing_is_copied(root: Path) -> None:
    project = write(root, '[sandbox]\nworking_dir = "/srv"')
    assert make_backend(
        SandboxOptions(backend="local", working_dir="."), project=project
    ) == LocalBackend(working_dir=".")


def test_a_file_gives_no_directory_of_this_machine_away(root: Path) -> None:
    project = write(root, '[sandbox]\nworking_dir = "/etc"')
    with pytest.raises(ConfigError, match=r"sandbox\.working_dir: the local backend .*--working-d"):
        make_backend(SandboxOptions(backend="local"), project=project)


def test_options_go_before_the_file(root: Path) -> None:
    project = write(
        root,
        """
        [sandbox]
        image = "theirs"
        working_dir = "/theirs"
        setup = ["theirs"]
        [sandbox.env]
        A = "theirs"
        B = "kept"
        """,
    )
    recipe = make_backend(
        SandboxOptions(
            backend="docker", image="mine", working_dir="/mine", setup=["mine"], env=["A=mine"]
        ),
        project=project,
    )
    assert recipe == DockerBackend(
        image="mine",
        working_dir="/mine",
        setup=["mine"],
        env_vars={"A": "mine", "B": "kept"},
        uploads=[(str(root), "/mine")],
    )


def test_a_file_fills_what_no_option_says(root: Path) -> None:
    text = '[sandbox]\nimage = "i"\nsetup = ["make"]\n[sandbox.env]\nA = "1"'
    recipe = make_backend(
        SandboxOptions(backend="docker", upload=[f"{root}:/x"]), project=write(root, text)
    )
    assert recipe == DockerBackend(
        image="i", setup=["make"], env_vars={"A": "1"}, uploads=[(str(root), "/x")]
    )


def test_a_dockerfile_is_an_image_to_a_backend_that_has_images(root: Path) -> None:
    (root / "Dockerfile").write_text("FROM x")
    image = Image.from_dockerfile(root / "Dockerfile")
    by_option = make_backend(SandboxOptions(backend="docker", dockerfile=Path("Dockerfile")))
    assert by_option == DockerBackend(image=image)
    project = write(root, '[sandbox]\ndockerfile = "Dockerfile"')
    by_file = make_backend(SandboxOptions(backend="docker"), project=project)
    assert isinstance(by_file, DockerBackend)
    assert by_file.image == image


def test_a_missing_dockerfile_is_told_before_anything_is_made(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Dockerfile"):
        make_backend(SandboxOptions(backend="docker", dockerfile=Path("Dockerfile")))


def test_an_option_for_a_beginning_sets_that_of_the_file_aside(
    root: Path, cloud: list[str]
) -> None:
    project = write(root, '[sandbox]\nsnapshot = "theirs"')
    recipe = make_backend(SandboxOptions(backend="cloud", image="mine"), project=project)
    assert isinstance(recipe, Cloud)
    assert (recipe.image, recipe.snapshot) == ("mine", None)


def test_a_snapshot_or_a_dockerfile_implies_daytona(root: Path, cloud: list[str]) -> None:
    (root / "Dockerfile").write_text("FROM x")
    make_backend(SandboxOptions(snapshot="s"))
    make_backend(SandboxOptions(dockerfile=Path("Dockerfile")))
    make_backend(SandboxOptions(backend="docker", dockerfile=Path("Dockerfile")))
    make_backend(SandboxOptions(image="x"))
    assert cloud == ["daytona", "daytona", "docker", "local"]


@pytest.mark.parametrize(
    "given", [("image", "snapshot"), ("dockerfile", "snapshot"), ("image", "dockerfile")]
)
def test_only_one_beginning_can_be_given(root: Path, given: tuple[str, str]) -> None:
    with pytest.raises(typer.BadParameter, match="one of --image, --dockerfile and --snapshot"):
        make_backend(
            SandboxOptions(
                image="x" if "image" in given else None,
                dockerfile=Path("x") if "dockerfile" in given else None,
                snapshot="x" if "snapshot" in given else None,
            )
        )


@pytest.mark.parametrize(
    ("backend", "key"), [("local", "image"), ("local", "dockerfile"), ("docker", "snapshot")]
)
def test_what_the_backend_cannot_begin_with_is_refused(root: Path, backend: str, key: str) -> None:
    (root / "Dockerfile").write_text("FROM x")
    project = write(root, f'[sandbox]\n{key} = "Dockerfile"')
    with pytest.raises(ConfigError, match=rf"toml: sandbox\.{key}: the {backend} backend does not"):
        make_backend(SandboxOptions(backend=backend), project=project)
    with pytest.raises(Unsupported, match=f"the {backend} backend does not support --{key}"):
        make_backend(
            SandboxOptions(
                backend=backend,
                image="Dockerfile" if key == "image" else None,
                dockerfile=Path("Dockerfile") if key == "dockerfile" else None,
                snapshot="Dockerfile" if key == "snapshot" else None,
            )
        )


def test_uv_is_seen_to_before_the_other_commands(root: Path) -> None:
    project = write(root, '[sandbox]\nuv_version = "0.9.5"\nsetup = ["uv sync"]')
    assert make_backend(SandboxOptions(backend="docker"), project=project).setup == (
        install_command("0.9.5"),
        "uv sync",
    )
    assert make_backend(SandboxOptions(backend="local"), project=project).setup == (
        require_command("0.9.5"),
        "uv sync",
    )


def test_a_backend_that_sees_to_uv_itself_is_asked_to(root: Path, cloud: list[str]) -> None:
    project = write(root, '[sandbox]\nuv_version = "0.9.5"\nsetup = ["uv sync"]')
    recipe = make_backend(SandboxOptions(backend="cloud"), project=project)
    assert isinstance(recipe, Cloud)
    assert (recipe.uv_version, recipe.setup) == ("0.9.5", ("uv sync",))


def test_a_file_says_what_else_the_upload_of_the_project_leaves_out(root: Path) -> None:
    project = write(root, '[sandbox]\nupload_ignore = ["/data"]\nupload_gitignore = true')
    recipe = make_backend(SandboxOptions(backend="docker", ignore=["*.log"]), project=project)
    assert recipe.upload_ignore == (*DEFAULT_IGNORE, "/data", "*.log")
    assert recipe.upload_gitignore
    assert not make_backend(
        SandboxOptions(backend="docker", gitignore=False), project=project
    ).upload_gitignore
